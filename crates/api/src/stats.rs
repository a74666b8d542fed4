//! What an instance uses.

use serde::{Deserialize, Serialize};

/// What the machine of an instance uses. All numbers of a machine that does not run are 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstanceStats {
    /// The instance's id.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Uuid))]
    pub instance_id: String,
    /// The instance's name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::InstanceName))]
    pub instance_name: String,
    /// When this was measured (RFC 3339), for rates between two answers.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub measured_at: String,
    /// Virtual CPUs.
    pub allocated_vcpus: u32,
    /// The guest's memory in bytes.
    pub allocated_memory_bytes: u64,
    /// Processor time since the start, in seconds, of the VMM and of the programs that serve it.
    pub cpu_seconds: f64,
    /// Memory of the VMM, the guest's included, that is in the host's memory, in bytes.
    pub memory_rss_bytes: u64,
    /// The VMM's address space in bytes.
    pub memory_vms_bytes: u64,
    /// `memory_rss_bytes` divided by `allocated_memory_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub memory_utilization_ratio: Option<f64>,
    /// Bytes that the guest has read from its disks since the start; absent if the VMM did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub disk_read_bytes: Option<u64>,
    /// Bytes that the guest has written to its disks since the start; absent if the VMM did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub disk_written_bytes: Option<u64>,
    /// Bytes that the guest has received by its virtual network card; 0 if `network_measured` is false.
    pub network_rx_bytes: u64,
    /// Bytes that the guest has sent by its virtual network card; 0 if `network_measured` is false.
    pub network_tx_bytes: u64,
    /// Whether the bytes of the network were measured. passt does not count them.
    #[serde(default)]
    pub network_measured: bool,
}
