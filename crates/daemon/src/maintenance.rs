//! Checks claimed devices: periodically, and at once when the kernel reports an error.

use std::time::Duration;

use engine::Engine;
use model::{Address, Change, ChangeKind, ErrorStage, Refusal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

/// The interval of checks. A check reads the configuration space of each claimed function once.
const EVERY: Duration = Duration::from_secs(30);

/// Checks claims until the process ends. `changes` has the host's changes, if it is monitored.
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
            // First what is reported only once.
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
            Ok(Err(refusal)) => warn!("cannot check the claimed devices: {}", refusal.message),
            Err(_) => return,
        }
    }
}

/// Waits for an error reported by the kernel. Returns the function that could not be recovered; `None` if it recovered.
async fn error(changes: &mut Option<Receiver<Change>>) -> Option<Address> {
    loop {
        let Some(receiver) = changes else { return std::future::pending().await };
        match receiver.recv().await {
            Ok(Change {
                address, kind: ChangeKind::Error { stage: ErrorStage::Failed }, ..
            }) => {
                return Some(address);
            }
            Ok(Change { kind: ChangeKind::Error { stage: ErrorStage::Recovered }, .. }) => {
                return None;
            }
            Ok(_) => {}
            // One of the lost changes may have been an error.
            Err(RecvError::Lagged(_)) => return None,
            Err(RecvError::Closed) => *changes = None,
        }
    }
}
