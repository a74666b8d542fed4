//! Expiring leases: a task that sleeps until the next lease expires.

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use tokio::sync::Notify;
use tracing::{error, warn};

/// The interval of retrying to release an expired claim that is still in use.
const AGAIN: Duration = Duration::from_secs(30);

/// Releases claims when their leases expire, until the process ends. `changed` signals that an earlier lease may exist.
pub async fn watch(engine: Engine, changed: Arc<Notify>) {
    loop {
        let asked = engine.clone();
        let next = match tokio::task::spawn_blocking(move || asked.release_expired()).await {
            Ok(Ok((kept, next))) => {
                for refusal in &kept {
                    warn!("lease expired, but releasing the claim failed: {}", refusal.message);
                }
                if kept.is_empty() { next } else { Some(AGAIN) }
            }
            Ok(Err(refusal)) => {
                error!("cannot read the leases: {}", refusal.message);
                Some(AGAIN)
            }
            Err(_) => return,
        };
        match next {
            // A second more, since the clock is read in whole seconds.
            Some(next) => {
                let _ =
                    tokio::time::timeout(next + Duration::from_secs(1), changed.notified()).await;
            }
            None => changed.notified().await,
        }
    }
}
