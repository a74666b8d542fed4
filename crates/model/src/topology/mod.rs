//! The host's PCI Express tree as a person draws it, and how far apart devices are in it.

mod distance;
mod tree;

pub use distance::Distance;
pub use tree::{Part, Place, RootBus, Topology, TopologyNode};
