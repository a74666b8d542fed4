//! Values of steps, and observations.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Address;

/// Owner and mode of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAccess {
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl NodeAccess {
    /// The kernel's default for a new `/dev/vfio/N` (`vfio_main.c`: the class sets no mode, so devtmpfs uses 0600
    /// root).
    pub const KERNEL_DEFAULT: Self = Self { uid: 0, gid: 0, mode: 0o600 };
}

/// A VFIO node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VfioNode {
    /// The device node for iommufd, `/dev/vfio/devices/vfioN`.
    Device,
    /// The group of a mediated device, `/dev/vfio/N`.
    MdevGroup(Uuid),
}

/// The host's state with respect to a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// As it was before the step.
    Before,
    /// As it is after the step.
    After,
    /// Neither: another tool changed it since. Holds the current value.
    Other(String),
    /// The function or node no longer exists.
    Absent,
}

/// The part of the host that a step locks, for workers and for recovery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lock {
    /// One function.
    Function(Address),
    /// The whole host: the kernel takes one lock for VF counts, remove and rescan.
    Host,
}
