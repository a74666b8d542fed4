//! Where a device is in the tree, for comparing many pairs of devices.

use super::Distance;
use super::distance::{root_bus, switch_above, whole_device};
use crate::{Address, Function, Inventory};

/// The places above a device, from the top of the host down. Devices below one place are nearer to each other than to any
/// other, and the distance of two devices is that of the lowest place that both are below: it is
/// [`Distance::between`] if all functions of a root bus are on one NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Vec<Ancestor>);

/// One place above a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ancestor {
    /// The part of the host whose NUMA nodes are known.
    KnownNodes,
    /// A NUMA node.
    Node(u32),
    /// A root bus: its domain and number.
    RootBus(u32, u8),
    /// A root port.
    RootPort(Address),
    /// A bridge below a root port: a port of a switch, or a bridge to another bus.
    Bridge(Address),
    /// The devices at one switch, without those behind further switches.
    Switch,
    /// The port of a switch that a device is connected to.
    Port(Address),
    /// A slot: the address of its function 0.
    Slot(u32, u8, u8),
}

impl Place {
    /// The place of a function.
    #[must_use]
    pub fn of(inventory: &Inventory, function: &Function) -> Self {
        let device = whole_device(inventory, function);
        let mut above = Vec::with_capacity(device.path.len() + 5);
        // A host without NUMA reports -1 for every function.
        let only = || match inventory.numa_nodes.len() {
            1 => inventory.numa_nodes.keys().next().copied(),
            _ => None,
        };
        if let Some(node) = device.numa_node.or_else(only) {
            above.extend([Ancestor::KnownNodes, Ancestor::Node(node)]);
        }
        let (domain, bus) = root_bus(device);
        above.push(Ancestor::RootBus(domain, bus));
        let switch = switch_above(device);
        let bridge = |(depth, bridge): (usize, &Address)| match depth {
            0 => Ancestor::RootPort(*bridge),
            _ => Ancestor::Bridge(*bridge),
        };
        above.extend(switch.iter().enumerate().map(bridge));
        if switch.len() > 1 {
            above.push(Ancestor::Switch);
            let port = device.path.get(switch.len()..).unwrap_or_default();
            above.extend(port.iter().map(|port| Ancestor::Port(*port)));
        }
        let slot = device.address;
        above.push(Ancestor::Slot(slot.domain(), slot.bus(), slot.device()));
        Self(above)
    }

    /// The place at this depth; `None` below the last one.
    #[must_use]
    pub fn ancestor(&self, depth: usize) -> Option<Ancestor> {
        self.0.get(depth).copied()
    }

    /// The distance of two devices that have the places above this depth in common, and no more.
    #[must_use]
    pub fn distance_below(&self, depth: usize) -> Distance {
        match depth.checked_sub(1).and_then(|last| self.ancestor(last)) {
            None => Distance::Unknown,
            Some(Ancestor::KnownNodes) => Distance::Across,
            Some(Ancestor::Node(_)) => Distance::SameNode,
            Some(Ancestor::RootBus(..)) => Distance::SameRootComplex,
            Some(Ancestor::RootPort(_)) => Distance::SameRootPort,
            Some(Ancestor::Bridge(_)) => Distance::SameSwitches,
            Some(Ancestor::Switch | Ancestor::Port(_)) => Distance::SameSwitch,
            Some(Ancestor::Slot(..)) => Distance::SameSlot,
        }
    }
}
