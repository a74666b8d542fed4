//! Parts of a device that can be handed over by themselves: mediated devices and NVIDIA's vendor-specific vGPUs.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A type of mediated devices that a parent offers (Documentation/ABI/testing/sysfs-bus-vfio-mdev).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MdevType {
    /// `nvidia-474`.
    pub id: String,
    /// `NVIDIA A100-4C`, where the parent tells it.
    pub name: Option<String>,
    /// How many more could be made now.
    pub available: Option<u32>,
    /// `vfio-pci`, ...
    pub device_api: Option<String>,
    /// The vendor's words, such as `num_heads=4, framebuffer=1024M`.
    pub description: Option<String>,
}

/// A mediated device that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mdev {
    /// Its name.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub uuid: Uuid,
    /// Its type's id.
    pub type_id: Option<String>,
    /// Its own IOMMU group.
    pub iommu_group: Option<u32>,
}

/// What a VF with NVIDIA's vendor-specific VFIO offers: it can become a vGPU of one of these types.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VgpuTypes {
    /// The type that it has now; `None` where it is free (`nvidia/current_vgpu_type` is 0).
    pub current: Option<u32>,
    /// The types that it could be made now (`nvidia/creatable_vgpu_types`).
    pub creatable: Vec<VgpuType>,
}

/// One type of vGPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VgpuType {
    /// The number that is written to choose it.
    pub id: u32,
    /// `NVIDIA L40S-1Q`.
    pub name: String,
}
