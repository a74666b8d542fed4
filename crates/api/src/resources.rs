//! Resources of the host.

use serde::{Deserialize, Serialize};

/// The answer of `GET /resources`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resources {
    /// Virtual CPUs.
    pub cpu: Resource,
    /// Memory in bytes.
    pub memory: Resource,
    /// Disk below the state directory, in bytes.
    pub disk: Resource,
    /// Network bandwidth: not managed, all zero.
    pub network: Resource,
    /// Disk usage.
    pub disk_breakdown: DiskBreakdown,
    /// Resources of each instance.
    pub allocations: Vec<Allocation>,
    /// The resources of the devices file, by name; none without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<PciResource>,
    /// GPUs; `null` if the host has none that can be handed over.
    pub gpu: Option<GpuResources>,
}

/// A resource of the devices file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PciResource {
    /// `gpu.nvidia/ga100gl.rev.a1`, or `nvidia.com/gpu`.
    pub name: String,
    /// How many devices it has.
    pub capacity: u64,
    /// How many of them are claimed.
    pub allocated: u64,
    /// How many of them can be claimed now, each by itself.
    pub available: u64,
    /// The owners of these claims.
    pub claimed_by: Vec<String>,
}

/// One kind of resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resource {
    /// `cpu`, `memory`, `disk` or `network`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ResourceType))]
    pub resource_type: String,
    /// Total on the host.
    pub capacity: u64,
    /// How much of it may be allocated.
    pub effective_limit: u64,
    /// Allocated to instances.
    pub allocated: u64,
    /// Still available.
    pub available: u64,
    /// `effective_limit` over `capacity`.
    pub oversub_ratio: f64,
    /// Source of the capacity: `detected`.
    pub source: Option<String>,
}

/// Disk usage below the state directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskBreakdown {
    /// Disks, file systems and kernels of images.
    pub images_bytes: u64,
    /// Layers of container images, as they were pulled. Images share them.
    pub oci_cache_bytes: u64,
    /// What belongs to an instance: its disk layer, and the volumes that were made with it.
    pub overlays_bytes: u64,
    /// Other volumes.
    pub volumes_bytes: u64,
}

/// Resources of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Allocation {
    /// The instance's id.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Uuid))]
    pub instance_id: String,
    /// Its name.
    pub instance_name: String,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Size of its root disk, if requested.
    pub disk_bytes: u64,
}

/// The GPUs that can be handed over, registered or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuResources {
    /// `vgpu` if a GPU has or offers vGPUs, else `passthrough`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::GpuMode))]
    pub mode: String,
    /// With `vgpu`, how many vGPUs fit: one on each virtual function; on a GPU without, those that exist and those that
    /// can be created of the smallest type. With `passthrough`, the number of whole GPUs.
    pub total_slots: u64,
    /// How many of them are claimed, in use, or in need of manual attention. A GPU is not in use because it is on
    /// vfio-pci.
    pub used_slots: u64,
    /// The vGPU profiles of all GPUs.
    pub profiles: Vec<GpuProfile>,
    /// The GPUs as whole devices. One that has virtual functions or vGPUs is not available.
    pub devices: Vec<GpuDevice>,
}

/// A vGPU profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuProfile {
    /// Its name without the vendor's, as requests take it: `L40S-1Q`.
    pub name: String,
    /// Its memory in MiB: as the driver describes it, else as NVIDIA's names tell it, else 0.
    pub framebuffer_mb: u64,
    /// How many can be created now. At most that many if the driver does not tell how much memory is left.
    pub available: u64,
}

/// A GPU as a whole device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuDevice {
    /// The name of its registration, or the one that it would get by default.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::DeviceName))]
    pub name: String,
    /// Its address.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub pci_address: String,
    /// Whether it can be claimed as a whole now.
    pub available: bool,
}
