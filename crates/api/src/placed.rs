//! Where machines run.

use serde::{Deserialize, Serialize};

/// Where a machine runs on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Placed {
    /// The NUMA node; the first one if there are `nodes`.
    pub node: u32,
    /// The processor of the host of each virtual processor; empty: they are not pinned.
    pub cpus: Vec<u32>,
    /// Whether its memory can only be on that node.
    pub memory_bound: bool,
    /// The guest's NUMA nodes, if its devices are on several of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<GuestNode>,
}

/// A NUMA node of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GuestNode {
    /// The node of the host.
    pub node: u32,
    /// How many of the virtual processors are there, in their order.
    pub vcpus: u32,
    /// Its memory.
    pub size: String,
}
