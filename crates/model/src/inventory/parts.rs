//! Partitions of a device: mediated devices and NVIDIA's vendor-specific vGPUs, which can be handed over separately,
//! and the instances of a GPU in MIG mode, which programs use.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A type of mediated devices that a parent offers (Documentation/ABI/testing/sysfs-bus-vfio-mdev).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MdevType {
    /// `nvidia-474`.
    pub id: String,
    /// `NVIDIA A100-4C`, if the parent reports it.
    pub name: Option<String>,
    /// The number that can be created now.
    pub available: Option<u32>,
    /// `vfio-pci`, ...
    pub device_api: Option<String>,
    /// The vendor's description, such as `num_heads=4, framebuffer=1024M`.
    pub description: Option<String>,
}

/// A mediated device that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mdev {
    /// Its UUID.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub uuid: Uuid,
    /// Its type's id.
    pub type_id: Option<String>,
    /// Its own IOMMU group.
    pub iommu_group: Option<u32>,
}

/// The vGPU types of a VF with NVIDIA's vendor-specific VFIO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VgpuTypes {
    /// Its current type; `None` if it is free (`nvidia/current_vgpu_type` is 0).
    pub current: Option<u32>,
    /// The types that it can become now (`nvidia/creatable_vgpu_types`).
    pub creatable: Vec<VgpuType>,
}

impl VgpuTypes {
    /// The name of a type, `NVIDIA L40S-1Q`, if the function lists it.
    #[must_use]
    pub fn name_of(&self, id: u32) -> Option<String> {
        self.creatable.iter().find(|kind| kind.id == id).map(|kind| kind.name.clone())
    }
}

/// One type of vGPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VgpuType {
    /// The number to write to select it.
    pub id: u32,
    /// `NVIDIA L40S-1Q`.
    pub name: String,
}

/// An instance of an NVIDIA GPU in MIG mode, with the node that grants access to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MigInstance {
    /// The number of the GPU instance.
    pub gpu_instance: u32,
    /// The number of the compute instance in it; `None` for the GPU instance itself.
    pub compute_instance: Option<u32>,
    /// The number N of `/dev/nvidia-caps/nvidia-capN`.
    pub capability: u32,
}

impl MigInstance {
    /// The path of its node.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/dev/nvidia-caps/nvidia-cap{}", self.capability)
    }
}
