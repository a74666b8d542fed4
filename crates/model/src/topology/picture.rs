//! The contents of a picture: the selected part of the tree, the colours of groups, and distances.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Distance, Part, Topology, TreeFunction};
use crate::{Address, Function, Inventory, OwnState};

/// Up to this number of devices, distances are shown by default.
const FEW: usize = 16;

/// The selection for a picture.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Everything, including the host's own functions and idle ports.
    pub all: bool,
    /// Distances, even for many devices.
    pub distances: bool,
    /// What Handover's own state says of the devices.
    pub own: Option<&'a OwnState>,
    /// Only matching functions, the bridges above them, and their assemblies.
    pub meant: Option<&'a dyn Fn(&Function) -> bool>,
}

/// The contents of a picture.
#[derive(Debug, Serialize)]
pub struct Picture {
    /// The tree.
    #[serde(flatten)]
    pub topology: Topology,
    /// The distance of each device to those after it; empty if there are too many and they were not requested.
    pub distances: Vec<Pair>,
    /// GPUs, accelerators, NICs and NVMe drives, in the order of the tree.
    #[serde(skip)]
    pub ends: Vec<End>,
    /// Whether distances were requested.
    #[serde(skip)]
    pub asked: bool,
    /// The number of the host's own functions that are left out.
    #[serde(skip)]
    pub hidden: usize,
    /// The colour number of each IOMMU group with several devices.
    #[serde(skip)]
    pub colours: BTreeMap<u32, usize>,
}

/// The distance between two devices.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// The first device.
    pub a: Address,
    /// The second device.
    pub b: Address,
    /// The distance.
    pub distance: Distance,
}

/// A device with distances.
#[derive(Debug)]
pub struct End {
    /// Its address.
    pub address: Address,
    /// Its kind and its name.
    pub what: String,
}

impl Picture {
    /// The selected contents of a host.
    #[must_use]
    pub fn of(inventory: &Inventory, wanted: Wanted<'_>) -> Self {
        let Wanted { all, distances: asked, own, meant } = wanted;
        let mut whole = Topology::of(inventory);
        if let Some(own) = own {
            whole.add_states(inventory, own);
        }
        let kept = |place: &TreeFunction| {
            let Some(meant) = meant else { return true };
            let itself = [place.address].into_iter().chain(place.assembly);
            let mut addresses = itself.chain(place.virtual_functions.clone());
            addresses.any(|address| inventory.function(address).is_some_and(meant))
        };
        let matching = whole.keeping(&kept);
        let count = |topology: &Topology| topology.functions().count();
        let before = count(&matching);
        let topology =
            if all { matching } else { matching.keeping(&|place: &TreeFunction| !place.clutter) };
        let hidden = before - count(&topology);
        let ends: Vec<End> = topology
            .functions()
            .filter(|place| place.is_end())
            .map(|place| End {
                address: place.address,
                what: format!("{} {}", place.kind, place.name),
            })
            .collect();
        let shown = asked || ends.len() <= FEW;
        let distances = if shown { pairs(inventory, &ends) } else { Vec::new() };
        let colours = colours(&topology);
        Self { topology, distances, ends, asked, hidden, colours }
    }

    /// The distances by pair, in both directions.
    #[must_use]
    pub fn distance_table(&self) -> BTreeMap<(Address, Address), Distance> {
        let both =
            |pair: &Pair| [((pair.a, pair.b), pair.distance), ((pair.b, pair.a), pair.distance)];
        self.distances.iter().flat_map(both).collect()
    }
}

fn pairs(inventory: &Inventory, ends: &[End]) -> Vec<Pair> {
    let functions: Vec<_> = ends.iter().filter_map(|end| inventory.function(end.address)).collect();
    let mut pairs = Vec::new();
    for (index, a) in functions.iter().enumerate() {
        for b in functions.iter().skip(index + 1) {
            let distance = Distance::between(inventory, a, b);
            pairs.push(Pair { a: a.address, b: b.address, distance });
        }
    }
    pairs
}

/// Groups with a single device need no colour.
fn colours(topology: &Topology) -> BTreeMap<u32, usize> {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    let mut order = Vec::new();
    let devices = topology.functions().filter(|place| place.part == Part::Device);
    for group in devices.filter_map(|place| place.iommu_group) {
        let size = sizes.entry(group).or_default();
        *size += 1;
        if *size == 2 {
            order.push(group);
        }
    }
    order.into_iter().enumerate().map(|(number, group)| (group, number)).collect()
}
