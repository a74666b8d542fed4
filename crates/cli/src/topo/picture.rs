//! What is drawn: the part of the tree that is wanted, the colours of its groups, and distances.

use std::collections::BTreeMap;

use model::topology::{Distance, Part, Place, Topology};
use model::{Address, Inventory};
use serde::Serialize;

use crate::ls::filter::Filter;

/// With so many devices at most, their distances are told without being asked for.
const FEW: usize = 16;

/// What is drawn.
#[derive(Debug, Serialize)]
pub struct Picture {
    /// The tree.
    #[serde(flatten)]
    pub topology: Topology,
    /// The distance of each device from those after it; empty where they are too many and nobody asked.
    pub distances: Vec<Pair>,
    /// GPUs, accelerators, NICs and NVMe drives, in the order of the tree.
    #[serde(skip)]
    pub ends: Vec<End>,
    /// Whether distances were asked for.
    #[serde(skip)]
    pub asked: bool,
    /// Functions of the host's own that are left out.
    #[serde(skip)]
    pub hidden: usize,
    /// A number for each IOMMU group that several of the devices share; it stands for a colour.
    #[serde(skip)]
    pub colours: BTreeMap<u32, usize>,
}

/// How far two devices are apart.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// The one.
    pub a: Address,
    /// The other.
    pub b: Address,
    /// How far.
    pub distance: Distance,
}

/// A device of which distances are told.
#[derive(Debug)]
pub struct End {
    /// Where it is.
    pub address: Address,
    /// Its kind and its name.
    pub what: String,
}

impl Picture {
    /// What is wanted of a host.
    pub fn of(inventory: &Inventory, all: bool, filters: &[Filter], asked: bool) -> Self {
        let whole = Topology::of(inventory);
        let meant = |address: Address| {
            let function = inventory.function(address);
            function.is_some_and(|function| Filter::all_match(filters, function))
        };
        let wanted = |place: &Place| {
            let itself = [place.address].into_iter().chain(place.assembly);
            filters.is_empty() || itself.chain(place.virtual_functions.clone()).any(meant)
        };
        let matching = whole.keeping(&wanted);
        let count = |topology: &Topology| topology.places().count();
        let before = count(&matching);
        let topology =
            if all { matching } else { matching.keeping(&|place: &Place| !place.clutter) };
        let hidden = before - count(&topology);
        let ends: Vec<End> = topology
            .places()
            .filter(|place| place.is_end())
            .map(|place| End {
                address: place.address,
                what: format!("{} {}", place.kind, place.name),
            })
            .collect();
        let told = asked || ends.len() <= FEW;
        let distances = if told { pairs(inventory, &ends) } else { Vec::new() };
        let colours = colours(&topology);
        Self { topology, distances, ends, asked, hidden, colours }
    }

    /// The distances by pair, in both directions.
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

/// Groups with one device in them need no colour: nothing is tied to anything.
fn colours(topology: &Topology) -> BTreeMap<u32, usize> {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    let mut order = Vec::new();
    let devices = topology.places().filter(|place| place.part == Part::Device);
    for group in devices.filter_map(|place| place.iommu_group) {
        let size = sizes.entry(group).or_default();
        *size += 1;
        if *size == 2 {
            order.push(group);
        }
    }
    order.into_iter().enumerate().map(|(number, group)| (group, number)).collect()
}
