//! Locks that a worker takes besides the one that came with its job.

use std::time::Duration;

use model::{HostError, Lock};
use rustix::fd::OwnedFd;

use crate::worker::{Locks, lock_name};

/// Waits for a lock, and holds it until it is dropped.
pub fn hold(
    locks: &Locks,
    lock: &Lock,
    patience: Duration,
    step: &str,
) -> Result<OwnedFd, HostError> {
    match locks.wait_for(lock, patience) {
        Ok(Some(held)) => Ok(held),
        Ok(None) => Err(HostError::Locked { step: step.into(), lock: lock_name(lock) }),
        Err(error) => Err(HostError::Worker {
            step: step.into(),
            reason: format!("the lock {} cannot be had: {error}", lock_name(lock)),
        }),
    }
}
