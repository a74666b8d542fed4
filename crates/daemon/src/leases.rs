//! Leases that end: a task that sleeps until the next one is over.

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use tokio::sync::Notify;
use tracing::{error, warn};

/// A claim whose lease expired and that is still in use is looked at again so often.
const AGAIN: Duration = Duration::from_secs(30);

/// Releases claims when their leases are over, until the process ends. `changed` is told when there may be an earlier one.
pub async fn watch(engine: Engine, changed: Arc<Notify>) {
    loop {
        let asked = engine.clone();
        let next = match tokio::task::spawn_blocking(move || asked.claims().release_expired()).await
        {
            Ok(Ok((kept, next))) => {
                for refusal in &kept {
                    warn!("lease expired, but releasing the claim failed: {}", refusal.message);
                }
                if kept.is_empty() { next } else { Some(AGAIN) }
            }
            Ok(Err(refusal)) => {
                error!("leases cannot be looked at: {}", refusal.message);
                Some(AGAIN)
            }
            Err(_) => return,
        };
        match next {
            // A second more, for the clock is read in whole seconds.
            Some(next) => {
                let _ =
                    tokio::time::timeout(next + Duration::from_secs(1), changed.notified()).await;
            }
            None => changed.notified().await,
        }
    }
}
