//! What a host answers when something on it fails.

use serde::{Deserialize, Serialize};

use crate::Address;

/// What went wrong with the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "error")]
pub enum HostError {
    /// The function is not there any more.
    #[error("{address} is gone from the host")]
    Gone {
        /// The function.
        address: Address,
    },
    /// A file of the kernel's refused.
    #[error("cannot {action} {path}: {reason}")]
    File {
        /// What was tried: `read`, `write "vfio-pci" to`, ...
        action: String,
        /// The path.
        path: String,
        /// The kernel's words.
        reason: String,
        /// The kernel's error number.
        errno: Option<i32>,
    },
    /// The host does not show what it should, before the step or after it.
    #[error("cannot {step}: the host shows {found}")]
    Check {
        /// The step in words.
        step: String,
        /// What the host shows.
        found: String,
    },
    /// The step did not end in time. Its worker may still be inside the kernel.
    #[error("{step} did not end within {seconds} s; the kernel still holds the worker")]
    Deadline {
        /// The step in words.
        step: String,
        /// The deadline.
        seconds: u64,
    },
    /// A worker of an earlier step still holds the device.
    #[error("{step} has to wait: an earlier step is still inside the kernel (lock {lock})")]
    Locked {
        /// The step in words.
        step: String,
        /// The lock.
        lock: String,
    },
    /// A worker could not be had or died.
    #[error("the worker for {step} failed: {reason}")]
    Worker {
        /// The step in words.
        step: String,
        /// How.
        reason: String,
    },
}
