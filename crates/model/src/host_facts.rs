//! What a host says of itself and of its functions besides the inventory.

use serde::{Deserialize, Serialize};

use crate::LinkBaseline;

/// The health of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// It responds, and its link is not degraded.
    Well,
    /// Its configuration space reads as all ones: it does not respond (PCI Express Base Specification, 2.3.2).
    Silent,
    /// Its link is slower or narrower than before.
    Slower {
        /// The current link.
        now: LinkBaseline,
    },
}

/// The capacity of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Online CPUs.
    pub cpus: u32,
    /// Memory in bytes (`MemTotal`).
    pub memory: u64,
    /// Available memory in bytes (`MemAvailable`).
    pub memory_available: u64,
}
