//! Claimed devices that stop answering: a task that looks now and then.

use std::time::Duration;

use engine::Engine;
use tracing::warn;

/// So often: each look is one read of each claimed function's configuration space, and nothing where nothing is claimed.
const EVERY: Duration = Duration::from_secs(30);

/// Looks after claims until the process ends.
pub async fn watch(engine: Engine) {
    loop {
        tokio::time::sleep(EVERY).await;
        let asked = engine.clone();
        match tokio::task::spawn_blocking(move || asked.look_after_claims()).await {
            Ok(Ok(lost)) => {
                for (address, reason) in lost {
                    warn!("{address} is quarantined: {reason}");
                }
            }
            Ok(Err(refusal)) => warn!("claims cannot be looked after: {}", refusal.message),
            Err(_) => return,
        }
    }
}
