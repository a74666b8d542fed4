//! On which processors and memory of the host a machine runs. A device is reached fastest from the NUMA node that it is on; a
//! virtual processor with a core of its own is not interrupted by other machines.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::shown::bytes;
use crate::{Code, Function, Refusal, format_size};

/// Whether a machine is placed beside its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementUse {
    /// It runs wherever the kernel likes. Machines of earlier versions do.
    #[default]
    None,
    /// Memory on the node of its devices is preferred, and each virtual processor has a processor of its own if enough whole
    /// cores are free.
    Auto,
    /// Both must be, or the machine does not start.
    Required,
}

impl PlacementUse {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::None, Self::Auto, Self::Required];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::Required => "required",
        }
    }
}

/// A processor of the host, as the kernel counts them: a thread of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCpu {
    /// Its number.
    pub number: u32,
    /// Its NUMA node.
    pub node: u32,
    /// The lowest number of a processor of its core.
    pub core: u32,
    /// Whether the kernel gives it no process by itself (`isolcpus=`).
    pub isolated: bool,
}

/// The processors and the memory of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuLayout {
    /// The processors that are online.
    pub cpus: Vec<HostCpu>,
    /// The NUMA nodes, with the memory in bytes that is free or can be freed.
    pub nodes: BTreeMap<u32, u64>,
}

/// Where a machine runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The NUMA node.
    pub node: u32,
    /// Whether its memory must be there. Otherwise the kernel takes other memory if that is used up.
    pub is_bound: bool,
    /// The processor of each virtual processor; none if they are not pinned.
    pub cpus: Vec<u32>,
    /// The processors of the cores that it has for itself.
    pub held: BTreeSet<u32>,
    /// The processors of the node for the threads of the VMM that are no virtual processors.
    pub others: Vec<u32>,
    /// The guest's NUMA nodes, if its devices are on several; `node` is the first one's. The virtual processors are theirs in this
    /// order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<Cell>,
    /// The guest's root complexes besides the first, which has all other ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<GuestRoot>,
}

/// A NUMA node of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The node of the host.
    pub node: u32,
    /// The number of its virtual processors, which can be none.
    pub vcpus: u32,
    /// Its memory in bytes.
    pub memory: u64,
}

/// A root complex of a guest, with the devices that share one on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRoot {
    /// The guest's NUMA node that it is on.
    pub cell: u32,
    /// The ports for devices behind it.
    pub ports: Vec<u32>,
}

/// A device of a machine that is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeDevice {
    /// The number of its port among those for devices.
    pub port: u32,
    /// Its NUMA node, if the host tells it.
    pub node: Option<u32>,
    /// Its root bus on the host: domain and bus.
    pub root: (u32, u8),
}

impl NodeDevice {
    /// A function in this port.
    #[must_use]
    pub fn of(function: &Function, port: u32) -> Self {
        let top = function.path.first().unwrap_or(&function.address);
        Self { port, node: function.numa_node, root: (top.domain(), top.bus()) }
    }
}

/// The memory of a guest's NUMA node is a multiple of this, or of a huge page.
const CELL_ALIGNMENT: u64 = 2 << 20;

/// A machine that is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Placing<'a> {
    /// What was asked for.
    pub wanted: PlacementUse,
    /// The number of virtual processors.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The size of the huge pages that its memory is in, if it is: they have their own node.
    pub huge_page: Option<u64>,
    /// Its devices.
    pub devices: &'a [NodeDevice],
    /// Whether the guest may have several NUMA nodes. Machines of earlier versions keep what they have.
    pub mirrors_nodes: bool,
    /// The processors that other machines have for themselves.
    pub taken: &'a BTreeSet<u32>,
}

impl Placement {
    /// Places a machine; `None` if it runs wherever the kernel likes.
    ///
    /// # Errors
    /// `insufficient_resources` if it must be placed, and cannot.
    pub fn choose(one: &Placing<'_>, host: &CpuLayout) -> Result<Option<Self>, Refusal> {
        let is_without = one.wanted == PlacementUse::Auto && one.devices.is_empty();
        if one.wanted == PlacementUse::None || is_without {
            return Ok(None);
        }
        let is_required = one.wanted == PlacementUse::Required;
        let cells = match cells(one, host) {
            Ok(cells) => cells,
            Err(refusal) if is_required => return Err(refusal),
            Err(_) => return Ok(None),
        };
        let mut pins = Some((Vec::new(), BTreeSet::new()));
        for cell in &cells {
            let cores = free_cores(one, host, cell.node);
            let own = pinned(cell.vcpus, &cores);
            if is_required {
                let available = host.nodes.get(&cell.node).copied().unwrap_or_default();
                if one.huge_page.is_none() && available < cell.memory {
                    return Err(too_little_memory(*cell, available));
                }
                if own.is_none() {
                    return Err(too_few_cores(*cell, &cores));
                }
            }
            pins = pins.zip(own).map(|((mut cpus, mut held), (more, cores))| {
                cpus.extend(more);
                held.extend(cores);
                (cpus, held)
            });
        }
        let (cpus, held): (Vec<u32>, BTreeSet<u32>) = pins.unwrap_or_default();
        let is_free = |cpu: &u32| !held.contains(cpu) && !one.taken.contains(cpu);
        let mut others = Vec::new();
        for cell in &cells {
            let there = || host.cpus.iter().filter(|cpu| cpu.node == cell.node);
            // The kernel does not balance isolated ones: what lands there stays, beside what its user means to run alone.
            let shared = there().any(|cpu| !cpu.isolated);
            let all = there().filter(|cpu| !shared || !cpu.isolated).map(|cpu| cpu.number);
            let free: Vec<u32> = all.clone().filter(is_free).collect();
            // A machine that is not pinned needs room for its virtual processors, if not beside others then among them.
            let enough = free.len() >= usize::try_from(cell.vcpus).unwrap_or(usize::MAX);
            others.extend(if enough || !cpus.is_empty() { free } else { all.collect() });
        }
        let node = cells.first().map(|cell| cell.node).unwrap_or_default();
        let roots = if cells.len() > 1 { roots(one, &cells) } else { Vec::new() };
        let cells = if cells.len() > 1 { cells } else { Vec::new() };
        Ok(Some(Self { node, is_bound: is_required, cpus, held, others, cells, roots }))
    }

    /// The ports behind root complexes that are on other nodes of the host than this one.
    pub fn ports_elsewhere(&self, node: Option<u32>) -> impl Iterator<Item = u32> {
        let is_elsewhere = move |root: &&GuestRoot| {
            let cell = usize::try_from(root.cell).ok().and_then(|cell| self.cells.get(cell));
            cell.map(|cell| cell.node) != node
        };
        self.roots.iter().filter(is_elsewhere).flat_map(|root| root.ports.iter().copied())
    }
}

/// The guest's NUMA nodes: one for each node of its devices.
fn cells(one: &Placing<'_>, host: &CpuLayout) -> Result<Vec<Cell>, Refusal> {
    let known = one.devices.iter().filter_map(|device| device.node);
    let nodes: BTreeSet<u32> = known.filter(|node| host.nodes.contains_key(node)).collect();
    let count = u64::try_from(nodes.len()).unwrap_or(1);
    let page = one.huge_page.unwrap_or(CELL_ALIGNMENT).max(CELL_ALIGNMENT);
    let share = one.memory.checked_div(count).unwrap_or_default() / page * page;
    if nodes.len() < 2 || !one.mirrors_nodes || share == 0 {
        let node = node_of(one, host)?;
        return Ok(vec![Cell { node, vcpus: one.vcpus, memory: one.memory }]);
    }
    let parts = u32::try_from(nodes.len()).unwrap_or(1);
    let (each, more) = (one.vcpus / parts, one.vcpus % parts);
    let mut cells: Vec<Cell> = nodes
        .into_iter()
        .zip(0..)
        .map(|(node, turn)| Cell { node, vcpus: each + u32::from(turn < more), memory: share })
        .collect();
    if let Some(first) = cells.first_mut() {
        first.memory = one.memory.saturating_sub(share.saturating_mul(count - 1));
    }
    Ok(cells)
}

/// The guest's root complexes: one for each that its devices have on the host, if it is on a node that the guest has. A node can
/// have several.
fn roots(one: &Placing<'_>, cells: &[Cell]) -> Vec<GuestRoot> {
    let mut roots: BTreeMap<(usize, (u32, u8)), Vec<u32>> = BTreeMap::new();
    for device in one.devices {
        let cell = cells.iter().position(|cell| Some(cell.node) == device.node);
        if let Some(cell) = cell {
            roots.entry((cell, device.root)).or_default().push(device.port);
        }
    }
    let root = |((cell, _), ports): ((usize, _), Vec<u32>)| {
        u32::try_from(cell).ok().map(|cell| GuestRoot { cell, ports })
    };
    roots.into_iter().filter_map(root).collect()
}

/// The node of a machine that is on one.
fn node_of(one: &Placing<'_>, host: &CpuLayout) -> Result<u32, Refusal> {
    let refused = |reason: String, remedy: &str| {
        Refusal::new(Code::InsufficientResources, reason, remedy.to_owned())
    };
    let mut nodes = host.nodes.keys().copied();
    if let (Some(node), None) = (nodes.next(), nodes.next()) {
        return Ok(node);
    }
    let known: BTreeSet<u32> = one.devices.iter().filter_map(|device| device.node).collect();
    let mut known = known.into_iter();
    match (known.next(), known.next()) {
        (Some(node), None) if host.nodes.contains_key(&node) => Ok(node),
        (Some(node), None) => Err(refused(
            format!("its devices are on NUMA node {node}, which has no processors or memory"),
            "use `--placement none`",
        )),
        (Some(first), Some(other)) if one.mirrors_nodes => Err(refused(
            format!(
                "its devices are on several NUMA nodes ({first} and {other}), and it has too little memory for each, or a node has no processors or memory"
            ),
            "give it more memory, or use `--placement none`",
        )),
        (Some(first), Some(other)) => Err(refused(
            format!(
                "its devices are on several NUMA nodes ({first} and {other}), and an earlier version created the machine for one"
            ),
            "`handover instance set NAME --placement required` gives the guest several NUMA nodes from its next start on; its devices then have other addresses",
        )),
        _ if one.devices.is_empty() && one.wanted == PlacementUse::Required => host
            .nodes
            .keys()
            .copied()
            .max_by_key(|node| free_cores(one, host, *node).len())
            .ok_or_else(|| {
                refused("this host does not tell its NUMA nodes".into(), "use `--placement none`")
            }),
        _ => Err(refused(
            "this host does not tell on which NUMA node its devices are".into(),
            "use `--placement none`; the host's firmware may have a setting for it",
        )),
    }
}

/// The cores of a node that no machine has: isolated ones first, then from the last one on, because the host's own work is
/// mostly on the first.
fn free_cores(one: &Placing<'_>, host: &CpuLayout, node: u32) -> Vec<Vec<HostCpu>> {
    let mut cores: BTreeMap<u32, Vec<HostCpu>> = BTreeMap::new();
    for cpu in host.cpus.iter().filter(|cpu| cpu.node == node) {
        cores.entry(cpu.core).or_default().push(*cpu);
    }
    let is_free = |core: &Vec<HostCpu>| core.iter().all(|cpu| !one.taken.contains(&cpu.number));
    let mut free: Vec<Vec<HostCpu>> = cores.into_values().rev().filter(is_free).collect();
    free.sort_by_key(|core| !core.iter().all(|cpu| cpu.isolated));
    free
}

/// The processors of each virtual processor, and all of their cores. One core of the node must be left for the host.
fn pinned(vcpus: u32, cores: &[Vec<HostCpu>]) -> Option<(Vec<u32>, BTreeSet<u32>)> {
    let wanted = usize::try_from(vcpus).ok()?;
    let mut chosen: Vec<&Vec<HostCpu>> = Vec::new();
    let mut count = 0;
    for core in cores.get(..cores.len().checked_sub(1)?)? {
        if count >= wanted {
            break;
        }
        count += core.len();
        chosen.push(core);
    }
    if count < wanted {
        return None;
    }
    chosen.sort_by_key(|core| core.first().map(|cpu| cpu.number));
    let all: Vec<u32> = chosen.into_iter().flatten().map(|cpu| cpu.number).collect();
    Some((all.iter().copied().take(wanted).collect(), all.into_iter().collect()))
}

fn too_little_memory(cell: Cell, available: u64) -> Refusal {
    Refusal::new(
        Code::InsufficientResources,
        format!(
            "NUMA node {} has {} of memory that is free, and the machine needs {} there",
            cell.node,
            bytes(available),
            format_size(cell.memory)
        ),
        "stop what uses memory there (`numastat -m`), make the machine smaller, or use `--placement auto`",
    )
}

fn too_few_cores(cell: Cell, cores: &[Vec<HostCpu>]) -> Refusal {
    let node = cell.node;
    let processors: usize = cores.iter().map(Vec::len).sum();
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let needed = usize::try_from(cell.vcpus).unwrap_or(usize::MAX);
    Refusal::new(
        Code::InsufficientResources,
        format!(
            "the machine needs {} of its own on NUMA node {node}, which has {} with {}, and one core stays the host's",
            count(needed, "processor"),
            count(cores.len(), "free core"),
            count(processors, "processor")
        ),
        "stop a machine that has cores of its own (`handover instance show`), use fewer `--vcpus`, or `--placement auto`",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// Two nodes with cores of two threads, whose numbers are far apart, as Linux counts them.
    fn host(cores_each: u32) -> CpuLayout {
        let all = cores_each * 2;
        let cpu = |number: u32| {
            let core = number % all;
            HostCpu { number, node: core / cores_each, core, isolated: false }
        };
        CpuLayout {
            cpus: (0..all * 2).map(cpu).collect(),
            nodes: BTreeMap::from([(0, 8 * GIB), (1, 64 * GIB)]),
        }
    }

    /// A device below a root bus of its own node.
    fn on(node: Option<u32>, port: u32) -> NodeDevice {
        let bus = u8::try_from(node.unwrap_or(0) * 32).unwrap();
        NodeDevice { port, node, root: (0, bus) }
    }

    fn choose(
        wanted: PlacementUse,
        vcpus: u32,
        devices: &[Option<u32>],
        taken: &[u32],
        host: &CpuLayout,
    ) -> Result<Option<Placement>, Refusal> {
        let devices: Vec<NodeDevice> =
            devices.iter().zip(0..).map(|(node, port)| on(*node, port)).collect();
        let taken = taken.iter().copied().collect();
        let one = Placing {
            wanted,
            vcpus,
            memory: 16 * GIB,
            huge_page: None,
            devices: &devices,
            mirrors_nodes: false,
            taken: &taken,
        };
        Placement::choose(&one, host)
    }

    #[test]
    fn whole_cores_beside_the_device_are_taken_and_one_is_left() {
        let placed = choose(PlacementUse::Required, 3, &[Some(1)], &[], &host(4)).unwrap().unwrap();
        assert_eq!((placed.node, placed.is_bound), (1, true));
        assert_eq!(placed.cpus, [6, 14, 7]);
        assert_eq!(placed.held, BTreeSet::from([6, 7, 14, 15]));
        assert_eq!(placed.others, [4, 5, 12, 13]);
        let second =
            choose(PlacementUse::Auto, 2, &[Some(1)], &[6, 7, 14, 15], &host(4)).unwrap().unwrap();
        assert_eq!((second.cpus, second.others), (vec![5, 13], vec![4, 12]));
    }

    #[test]
    fn without_enough_cores_a_machine_is_only_near() {
        let taken = [6, 7, 14, 15, 5, 13];
        let near = choose(PlacementUse::Auto, 2, &[Some(1)], &taken, &host(4)).unwrap().unwrap();
        assert!(near.cpus.is_empty() && near.held.is_empty() && !near.is_bound);
        assert_eq!(near.others, [4, 12]);
        let many = choose(PlacementUse::Auto, 3, &[Some(1)], &taken, &host(4)).unwrap().unwrap();
        assert_eq!(many.others.len(), 8, "it is not squeezed on one core");
        let error = choose(PlacementUse::Required, 2, &[Some(1)], &taken, &host(4)).unwrap_err();
        assert!(error.message.contains("2 processors of its own on NUMA node 1"), "{error:?}");
        assert!(error.message.contains("1 free core with 2 processors"), "{error:?}");
    }

    #[test]
    fn a_demand_that_cannot_be_met_says_why() {
        let required = |devices: &[Option<u32>]| {
            choose(PlacementUse::Required, 2, devices, &[], &host(4)).unwrap_err().message
        };
        assert!(required(&[Some(0)]).contains("8 GB of memory that is free"));
        assert!(required(&[Some(0), Some(1)]).contains("several NUMA nodes (0 and 1)"));
        assert!(required(&[None]).contains("does not tell on which NUMA node"));
        assert!(required(&[Some(7)]).contains("NUMA node 7, which has no processors"));
        for devices in [&[Some(0), Some(1)][..], &[None], &[Some(7)], &[]] {
            assert_eq!(choose(PlacementUse::Auto, 2, devices, &[], &host(4)), Ok(None));
        }
        assert_eq!(choose(PlacementUse::None, 2, &[Some(1)], &[], &host(4)), Ok(None));
        let anywhere = choose(PlacementUse::Required, 2, &[], &[4, 12], &host(4));
        assert!(anywhere.is_err(), "node 0 has more free cores, and too little memory");
    }

    #[test]
    fn isolated_cores_come_first_and_one_node_is_the_node() {
        let mut host = host(4);
        host.nodes.remove(&1);
        for cpu in &mut host.cpus {
            cpu.node = 0;
            cpu.isolated = cpu.core == 2;
        }
        let placed = choose(PlacementUse::Auto, 2, &[None], &[], &host).unwrap().unwrap();
        assert_eq!((placed.node, placed.cpus), (0, vec![2, 10]));
    }

    /// Two devices below one root bus, one below another of the same node, one on the other node, and one on no node.
    fn spread(vcpus: u32, memory: u64, wanted: PlacementUse) -> Result<Option<Placement>, Refusal> {
        let apart = NodeDevice { root: (0, 9), ..on(Some(1), 2) };
        let devices = [
            on(Some(1), 0),
            on(Some(1), 1),
            apart,
            on(Some(0), 3),
            NodeDevice { root: (0, 0), ..on(None, 4) },
        ];
        let one = Placing {
            wanted,
            vcpus,
            memory,
            huge_page: None,
            devices: &devices,
            mirrors_nodes: true,
            taken: &BTreeSet::new(),
        };
        Placement::choose(&one, &host(4))
    }

    #[test]
    fn devices_of_several_nodes_give_the_guest_several_nodes() {
        let placed = spread(5, 8 * GIB + (2 << 20), PlacementUse::Auto).unwrap().unwrap();
        let cell = |node, vcpus, memory| Cell { node, vcpus, memory };
        let (first, second) = (4 * GIB + (2 << 20), 4 * GIB);
        assert_eq!(placed.cells, [cell(0, 3, first), cell(1, 2, second)]);
        let root = |cell, ports: &[u32]| GuestRoot { cell, ports: ports.to_vec() };
        assert_eq!(placed.roots, [root(0, &[3]), root(1, &[2]), root(1, &[0, 1])]);
        // Whole cores of each node, in the order of the virtual processors.
        assert_eq!(placed.cpus, [2, 10, 3, 7, 15]);
        assert!(placed.others.iter().all(|cpu| !placed.held.contains(cpu)));
        assert_eq!(placed.ports_elsewhere(Some(1)).collect::<Vec<_>>(), [3]);
        assert_eq!(placed.ports_elsewhere(None).count(), 4);
    }

    #[test]
    fn each_of_several_nodes_must_have_what_is_required() {
        let error = spread(4, 32 * GIB, PlacementUse::Required).unwrap_err();
        assert!(error.message.contains("NUMA node 0 has 8 GB"), "{error:?}");
        let error = spread(14, 8 * GIB, PlacementUse::Required).unwrap_err();
        assert!(error.message.contains("7 processors of its own on NUMA node 0"), "{error:?}");
        let loose = spread(14, 8 * GIB, PlacementUse::Auto).unwrap().unwrap();
        assert!(loose.cpus.is_empty() && loose.held.is_empty() && loose.cells.len() == 2);
        let error = spread(2, 2 << 20, PlacementUse::Required).unwrap_err();
        assert!(error.message.contains("too little memory for each"), "{error:?}");
        assert_eq!(spread(2, 2 << 20, PlacementUse::Auto), Ok(None));
        let one = spread(1, GIB, PlacementUse::Auto).unwrap().unwrap();
        assert_eq!(one.cells.iter().map(|cell| cell.vcpus).collect::<Vec<_>>(), [1, 0]);
    }

    proptest! {
        #[test]
        fn no_two_machines_share_a_core(wishes in proptest::collection::vec((1..9_u32, 0..2_u32), 1..8)) {
            let host = host(8);
            let mut taken = BTreeSet::new();
            for (vcpus, node) in wishes {
                let devices = [on(Some(node), 0)];
                let one = Placing {
                    wanted: PlacementUse::Auto, vcpus, memory: GIB, huge_page: None,
                    devices: &devices, mirrors_nodes: true, taken: &taken,
                };
                let placed = Placement::choose(&one, &host).unwrap().unwrap();
                prop_assert!(placed.held.is_disjoint(&taken));
                prop_assert!(placed.cpus.is_empty() || placed.cpus.len() == vcpus as usize);
                prop_assert!(placed.cpus.iter().all(|cpu| placed.held.contains(cpu)));
                prop_assert!(!placed.others.is_empty(), "the host keeps a core");
                for cpu in host.cpus.iter().filter(|cpu| placed.held.contains(&cpu.number)) {
                    prop_assert_eq!(cpu.node, node);
                    let siblings = host.cpus.iter().filter(|other| other.core == cpu.core);
                    prop_assert!(siblings.into_iter().all(|one| placed.held.contains(&one.number)));
                }
                taken.extend(placed.held);
            }
        }
    }
}
