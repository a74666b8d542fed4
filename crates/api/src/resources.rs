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
    /// GPUs; `null` if none is registered.
    pub gpu: Option<GpuResources>,
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
    /// Images.
    pub images_bytes: u64,
    /// Layers of container images: not implemented, zero.
    pub oci_cache_bytes: u64,
    /// The machines' own disk layers.
    pub overlays_bytes: u64,
    /// Volumes: not implemented, zero.
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

/// The registered GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuResources {
    /// `passthrough`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::GpuMode))]
    pub mode: String,
    /// Their number.
    pub total_slots: u64,
    /// How many of them are attached to instances. A GPU on vfio-pci for another reason is not counted.
    pub used_slots: u64,
    /// vGPU profiles: not implemented, empty.
    pub profiles: Vec<GpuProfile>,
    /// Each of them.
    pub devices: Vec<GpuDevice>,
}

/// A vGPU profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuProfile {
    /// Its name.
    pub name: String,
    /// Its memory.
    pub framebuffer_mb: u64,
    /// How many are still available.
    pub available: u64,
}

/// A registered GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuDevice {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::DeviceName))]
    pub name: String,
    /// Whether no instance uses it.
    pub available: bool,
}
