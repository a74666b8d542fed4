//! Where machines run.

use serde::{Deserialize, Serialize};

/// Where a machine runs on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Placed {
    /// The NUMA node.
    pub node: u32,
    /// The processor of the host of each virtual processor; empty: they are not pinned.
    pub cpus: Vec<u32>,
    /// Whether its memory can only be on that node.
    pub memory_bound: bool,
}
