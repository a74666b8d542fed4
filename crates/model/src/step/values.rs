//! What steps carry, and what is told of them.

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
    /// What the kernel gives a new `/dev/vfio/N` (`vfio_main.c`: the class sets no mode, so devtmpfs makes 0600 root).
    pub const KERNEL_DEFAULT: Self = Self { uid: 0, gid: 0, mode: 0o600 };
}

/// Which node of VFIO's is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VfioNode {
    /// The device's own, `/dev/vfio/devices/vfioN`, for iommufd.
    Device,
    /// The group of a mediated device, `/dev/vfio/N`.
    MdevGroup(Uuid),
}

/// What the host shows of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// As it was before the step.
    Before,
    /// As the step leaves it.
    After,
    /// Neither: somebody else changed it since. It says what is there.
    Other(String),
    /// The function (or node) is not there any more.
    Absent,
}

/// Which part of the host a step locks, for workers and for recovery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lock {
    /// One function.
    Function(Address),
    /// The whole host: the kernel takes one lock for VF counts, remove and rescan.
    Host,
}
