//! Errors of a host.

use serde::{Deserialize, Serialize};

use crate::Address;

/// An error of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "error")]
pub enum HostError {
    /// The function no longer exists.
    #[error("{address} no longer exists on the host")]
    Gone {
        /// The function.
        address: Address,
    },
    /// The kernel refused access to a file.
    #[error("cannot {action} {path}: {reason}")]
    File {
        /// The action: `read`, `write "vfio-pci" to`, ...
        action: String,
        /// The path.
        path: String,
        /// The kernel's error text.
        reason: String,
        /// The kernel's error number.
        errno: Option<i32>,
    },
    /// The host's state is not as expected, before the step or after it.
    #[error("cannot {step}: the host shows {found}")]
    Check {
        /// The step, in words.
        step: String,
        /// What the host shows.
        found: String,
    },
    /// The step timed out. Its worker may still be blocked in the kernel.
    #[error("{step}: timed out after {seconds} s; the worker is still blocked in the kernel")]
    Deadline {
        /// The step, in words.
        step: String,
        /// The deadline.
        seconds: u64,
    },
    /// A worker of an earlier step still holds the device.
    #[error("{step}: an earlier step is still blocked in the kernel (lock {lock})")]
    Locked {
        /// The step, in words.
        step: String,
        /// The lock.
        lock: String,
    },
    /// A worker could not be started, or it died.
    #[error("the worker for {step} failed: {reason}")]
    Worker {
        /// The step, in words.
        step: String,
        /// The cause.
        reason: String,
    },
}
