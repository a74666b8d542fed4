//! Whether the guest of a running machine executes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a guest executes, as its VMM says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Execution {
    /// It executes.
    Running,
    /// It was paused on request.
    Paused,
    /// The VMM has stopped it without a request.
    Halted(Halt),
}

/// Why a VMM has stopped its guest without a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// A write to a disk of the machine found no space on the host.
    DiskFull,
    /// A disk of the machine could not be read or written.
    DiskFailed,
    /// The VMM or KVM failed.
    InternalError,
    /// The guest's kernel has crashed.
    Crashed,
    /// The guest has put itself to sleep (ACPI S3).
    Asleep,
    /// The guest has shut down, and its VMM stays.
    ShutDown,
    /// Another reason: the VMM's word for it.
    Other(String),
}

impl Halt {
    /// Whether the guest can continue; otherwise only a restart helps.
    #[must_use]
    pub const fn can_continue(&self) -> bool {
        !matches!(self, Self::InternalError | Self::Crashed | Self::ShutDown)
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => {
                "the guest is stopped: it wrote to its disk, and the host has no space left for that"
            }
            Self::DiskFailed => "the guest is stopped: the host could not read or write its disk",
            Self::InternalError => {
                "the guest is stopped: the hypervisor failed with an internal error"
            }
            Self::Crashed => "the guest is stopped: its kernel has crashed",
            Self::Asleep => "the guest sleeps (ACPI S3)",
            Self::ShutDown => "the guest has shut down, and its hypervisor still runs",
            Self::Other(word) => {
                return write!(f, "the hypervisor has stopped the guest (status {word})");
            }
        })
    }
}
