//! Leases: a task that sleeps until the next one expires.

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use tokio::sync::Notify;
use tracing::{error, warn};

/// The shortest sleep: time is compared in fractions of a second.
const SHORTEST: Duration = Duration::from_millis(10);

/// The longest sleep: a timer does not run while the host sleeps, and a lease does.
const LONGEST: Duration = Duration::from_secs(5);

/// How often to retry to release a claim whose lease expired and that is still in use.
const RETRY: Duration = Duration::from_secs(30);

/// How long to sleep without a lease. The one who made a claim may be gone before `changed` is notified.
const IDLE: Duration = Duration::from_secs(60);

/// Releases claims when their leases expire, until the process ends. `changed` is notified when there may be an earlier one.
pub async fn watch(engine: Engine, changed: Arc<Notify>) {
    let mut reported = Vec::new();
    loop {
        let asked = engine.clone();
        let next = match tokio::task::spawn_blocking(move || asked.claims().release_expired()).await
        {
            Ok(Ok((kept, next))) => {
                // They are tried at each turn; a reason is logged once.
                for refusal in kept.iter().filter(|refusal| !reported.contains(*refusal)) {
                    warn!("lease expired, but releasing the claim failed: {}", refusal.message);
                }
                let next = next.map(|next| next.clamp(SHORTEST, LONGEST));
                let next = next.unwrap_or(if kept.is_empty() { IDLE } else { RETRY });
                reported = kept;
                next
            }
            Ok(Err(refusal)) => {
                error!("cannot check the leases: {}", refusal.message);
                RETRY
            }
            Err(_) => return,
        };
        let _ = tokio::time::timeout(next, changed.notified()).await;
    }
}
