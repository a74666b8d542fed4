//! The host's PCI Express tree, and the distances between devices.

mod distance;
pub mod link;
mod picture;
mod place;
pub mod svg;
mod tree;
pub mod words;

pub use distance::Distance;
pub use picture::{End, Pair, Picture, Wanted};
pub use place::{Ancestor, Place};
pub use tree::{Part, RootBus, Topology, TopologyNode, TreeFunction, Uplink};
