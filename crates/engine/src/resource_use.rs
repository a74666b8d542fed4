//! What the host has, and how much of it is allocated: plain values, which CLI and API render.

use std::collections::BTreeSet;

use model::{Address, VgpuSlots};
use serde::{Deserialize, Serialize};

/// Capacity and use of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceUse {
    /// Cores or bytes that the host has.
    pub capacity: u64,
    /// Cores or bytes allocated to instances.
    pub allocated: u64,
}

/// The host's resources and their use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Virtual CPUs.
    pub cpu: ResourceUse,
    /// Memory in bytes.
    pub memory: ResourceUse,
    /// Disk below the state directory, in bytes.
    pub disk: ResourceUse,
    /// What uses how much of `disk`.
    pub disk_use: DiskUse,
    /// The GPUs that can be handed over as a whole, registered or not.
    pub gpus: Vec<WholeGpu>,
    /// The resources of the devices file, by name.
    pub pci: Vec<PciResource>,
    /// vGPUs, if a GPU has or offers any.
    pub vgpus: Option<VgpuSlots>,
}

/// What takes space on the disk of the state directory, in bytes; holes of files take none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Disks, file systems and kernels of images.
    pub images: u64,
    /// The layers of container images, as they were pulled.
    pub layers: u64,
    /// What belongs to an instance: its files, and the volumes that were made with it.
    pub overlays: u64,
    /// Other volumes.
    pub volumes: u64,
}

/// A resource of the devices file, on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciResource {
    /// `gpu.nvidia/ga100gl.rev.a1`, or `nvidia.com/gpu`.
    pub name: String,
    /// How many devices it has.
    pub total: usize,
    /// How many of them are claimed.
    pub allocated: usize,
    /// How many of them can be claimed now; each by itself, so that one of several in one IOMMU group excludes the others.
    pub available: usize,
    /// The owners of these claims.
    pub claimed_by: BTreeSet<String>,
}

/// A GPU that can be handed over as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeGpu {
    /// The name of its registration, or the one that it would get.
    pub name: String,
    /// Its address.
    pub address: Address,
    /// Whether it can be claimed now.
    pub available: bool,
}
