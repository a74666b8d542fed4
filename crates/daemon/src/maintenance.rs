//! Claimed devices that stop answering: a task that looks now and then, and at once when the kernel tells of an error.

use std::time::Duration;

use engine::Engine;
use model::{Address, Change, ChangeKind, ErrorStage, Refusal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

/// So often: each look is one read of each claimed function's configuration space, and nothing where nothing is claimed.
const EVERY: Duration = Duration::from_secs(30);

/// Looks after claims until the process ends. `changes` is what the host tells of, where it is followed.
pub async fn watch(engine: Engine, mut changes: Option<Receiver<Change>>) {
    let mut next = tokio::time::interval(EVERY);
    next.tick().await;
    loop {
        let failed = tokio::select! {
            _ = next.tick() => None,
            failed = error(&mut changes) => failed,
        };
        let asked = engine.clone();
        let look = move || -> Result<Vec<(Address, String)>, Refusal> {
            // First what is told once only.
            let mut lost = Vec::new();
            if let Some(address) = failed
                && let Some(reason) = asked.devices().recovery_failed(address)?
            {
                lost.push((address, reason));
            }
            lost.extend(asked.check_claims()?);
            Ok(lost)
        };
        match tokio::task::spawn_blocking(look).await {
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

/// Waits for an error that the kernel tells of: the function that could not be recovered, or none where the kernel has done
/// with it otherwise.
async fn error(changes: &mut Option<Receiver<Change>>) -> Option<Address> {
    loop {
        let Some(told) = changes else { return std::future::pending().await };
        match told.recv().await {
            Ok(Change {
                address, what: ChangeKind::Error { stage: ErrorStage::Failed }, ..
            }) => {
                return Some(address);
            }
            Ok(Change { what: ChangeKind::Error { stage: ErrorStage::Recovered }, .. }) => {
                return None;
            }
            Ok(_) => {}
            // An error may have been among them.
            Err(RecvError::Lagged(_)) => return None,
            Err(RecvError::Closed) => *changes = None,
        }
    }
}
