//! Distances between functions: what their peer-to-peer traffic passes through.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Address, Function, Inventory};

/// The distance between two functions, nearest first. It depends only on the shape of the tree, so that a listing and
/// detail agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// Functions of one device: in one slot, or a physical function and its virtual functions.
    SameSlot,
    /// Below one switch: traffic between them passes through one bridge.
    SameSwitch,
    /// Below several switches of one root port: traffic between them need not reach the root port.
    SameSwitches,
    /// Below one root port, without a common switch.
    SameRootPort,
    /// Below different root ports of one root bus: traffic passes through the host bridge.
    SameRootComplex,
    /// On different root buses of one NUMA node.
    SameNode,
    /// On different NUMA nodes: traffic passes through the link between processors.
    Across,
    /// The firmware does not report their NUMA nodes, and nothing closer connects them.
    Unknown,
}

impl Distance {
    /// Every distance, nearest first.
    pub const ALL: [Self; 8] = [
        Self::SameSlot,
        Self::SameSwitch,
        Self::SameSwitches,
        Self::SameRootPort,
        Self::SameRootComplex,
        Self::SameNode,
        Self::Across,
        Self::Unknown,
    ];

    /// The distance between two functions of a host.
    #[must_use]
    pub fn between(inventory: &Inventory, a: &Function, b: &Function) -> Self {
        let (a, b) = (whole_device(inventory, a), whole_device(inventory, b));
        if a.address.same_slot(b.address) {
            return Self::SameSlot;
        }
        let shared = a.path.iter().zip(&b.path).take_while(|(one, two)| one == two).count();
        match shared {
            0 if root_bus(a) == root_bus(b) => Self::SameRootComplex,
            0 => between_nodes(inventory, a.numa_node, b.numa_node),
            1 => Self::SameRootPort,
            _ if switch_above(a) == switch_above(b) => Self::SameSwitch,
            _ => Self::SameSwitches,
        }
    }

    /// How much it counts in the sum of distances that choosing makes small. What matters are the steps: crossing to another
    /// processor costs more than all bridges of one.
    #[must_use]
    pub const fn cost(self) -> u32 {
        match self {
            Self::SameSlot => 0,
            Self::SameSwitch => 1,
            Self::SameSwitches => 2,
            Self::SameRootPort => 3,
            Self::SameRootComplex => 4,
            Self::SameNode => 6,
            Self::Across => 16,
            Self::Unknown => 20,
        }
    }

    /// The word for a matrix.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::SameSlot => "slot",
            Self::SameSwitch => "switch",
            Self::SameSwitches => "switches",
            Self::SameRootPort => "port",
            Self::SameRootComplex => "root",
            Self::SameNode => "node",
            Self::Across => "across",
            Self::Unknown => "?",
        }
    }

    /// Its meaning, for a legend.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::SameSlot => "same slot: functions of one device",
            Self::SameSwitch => "same switch: one bridge between them",
            Self::SameSwitches => "several switches: traffic need not reach the root port",
            Self::SameRootPort => "same root port",
            Self::SameRootComplex => {
                "same root complex: different root ports of one root bus, through the host bridge"
            }
            Self::SameNode => "same NUMA node: different root buses",
            Self::Across => "across NUMA nodes: through the link between processors",
            Self::Unknown => "NUMA node unknown: the firmware does not report it",
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SameSlot => "same slot",
            Self::SameSwitch => "same switch",
            Self::SameSwitches => "several switches",
            Self::SameRootPort => "same root port",
            Self::SameRootComplex => "same root complex",
            Self::SameNode => "same node",
            Self::Across => "across nodes",
            Self::Unknown => "unknown",
        })
    }
}

/// A virtual function has the distances of its physical function, whose link it shares.
pub(super) fn whole_device<'a>(inventory: &'a Inventory, function: &'a Function) -> &'a Function {
    function.physical_function.and_then(|physical| inventory.function(physical)).unwrap_or(function)
}

/// The domain and number of a function's root bus. Each VMD domain has its own.
pub(super) fn root_bus(function: &Function) -> (u32, u8) {
    let outermost = function.path.first().copied().unwrap_or(function.address);
    (outermost.domain(), outermost.bus())
}

/// The bridges down to the switch that a device is connected to: without the port just above it, if that is one of a switch.
pub(super) fn switch_above(function: &Function) -> &[Address] {
    let path = &function.path;
    let end = path.len().saturating_sub(1).max(2).min(path.len());
    path.get(..end).unwrap_or(path)
}

fn between_nodes(inventory: &Inventory, a: Option<u32>, b: Option<u32>) -> Distance {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Distance::SameNode,
        (Some(_), Some(_)) => Distance::Across,
        // A host without NUMA reports -1 for every function.
        _ if inventory.numa_nodes.len() == 1 => Distance::SameNode,
        _ => Distance::Unknown,
    }
}
