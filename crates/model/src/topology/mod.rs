//! The host's PCI Express tree as a person draws it, and how far apart devices are in it.

mod distance;
pub mod link;
mod picture;
pub mod svg;
mod tree;
pub mod words;

pub use distance::Distance;
pub use picture::{End, Pair, Picture, Wanted};
pub use tree::{Part, RootBus, Topology, TopologyNode, TreeFunction};
