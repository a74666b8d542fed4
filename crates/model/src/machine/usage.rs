//! What a running machine uses of its host.

use std::time::Duration;

/// What a machine has used since it was started, and the memory that it uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of the VMM and of the programs that serve it.
    pub cpu: Duration,
    /// Memory of the VMM that is in the host's memory, in bytes.
    pub resident: u64,
    /// The VMM's address space, in bytes.
    pub address_space: u64,
    /// Its disks; `None` if the VMM did not tell.
    pub disks: Option<DiskUsage>,
    /// Its virtual network cards; `None` if nothing counts what they send and receive.
    pub network: Option<NetworkUsage>,
}

/// What a guest has read from and written to its disks, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// What a guest has received and sent by its virtual network cards, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// Received.
    pub received: u64,
    /// Sent.
    pub sent: u64,
}
