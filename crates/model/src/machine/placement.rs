//! On which processors and memory of the host a machine runs. A device is reached fastest from the NUMA node that it is on; a
//! virtual processor with a core of its own is not interrupted by other machines.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Code, Refusal, format_size};

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
}

/// A machine that is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Placing<'a> {
    /// What was asked for.
    pub wanted: PlacementUse,
    /// The number of virtual processors.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Whether its memory is in huge pages, which have their own node.
    pub has_huge_pages: bool,
    /// The nodes of its devices; `None` of a device whose node the host does not tell.
    pub devices: &'a BTreeSet<Option<u32>>,
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
        let node = match node_of(one, host) {
            Ok(node) => node,
            Err(refusal) if is_required => return Err(refusal),
            Err(_) => return Ok(None),
        };
        let cores = free_cores(one, host, node);
        let pinned = pinned(one.vcpus, &cores);
        if is_required {
            let available = host.nodes.get(&node).copied().unwrap_or_default();
            if !one.has_huge_pages && available < one.memory {
                return Err(too_little_memory(one, node, available));
            }
            if pinned.is_none() {
                return Err(too_few_cores(one, node, &cores));
            }
        }
        let (cpus, held) = pinned.unwrap_or_default();
        let all = host.cpus.iter().filter(|cpu| cpu.node == node).map(|cpu| cpu.number);
        let is_free = |cpu: &u32| !held.contains(cpu) && !one.taken.contains(cpu);
        let free: Vec<u32> = all.clone().filter(is_free).collect();
        // A machine that is not pinned needs room for its virtual processors, if not beside others then among them.
        let enough = free.len() >= usize::try_from(one.vcpus).unwrap_or(usize::MAX);
        let others = if enough || !cpus.is_empty() { free } else { all.collect() };
        Ok(Some(Self { node, is_bound: is_required, cpus, held, others }))
    }
}

/// The node of the devices.
fn node_of(one: &Placing<'_>, host: &CpuLayout) -> Result<u32, Refusal> {
    let refused = |reason: String, remedy: &str| {
        Refusal::new(Code::InsufficientResources, reason, remedy.to_owned())
    };
    let mut nodes = host.nodes.keys().copied();
    if let (Some(node), None) = (nodes.next(), nodes.next()) {
        return Ok(node);
    }
    let known: BTreeSet<u32> = one.devices.iter().flatten().copied().collect();
    let mut known = known.into_iter();
    match (known.next(), known.next()) {
        (Some(node), None) if host.nodes.contains_key(&node) => Ok(node),
        (Some(node), None) => Err(refused(
            format!("its devices are on NUMA node {node}, which has no processors or memory"),
            "use `--placement none`",
        )),
        (Some(one), Some(other)) => Err(refused(
            format!(
                "its devices are on several NUMA nodes ({one} and {other}), and a machine is placed on one"
            ),
            "give it devices of one node (`handover topo`), or use `--placement auto`",
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

fn too_little_memory(one: &Placing<'_>, node: u32, available: u64) -> Refusal {
    Refusal::new(
        Code::InsufficientResources,
        format!(
            "NUMA node {node} has {} of memory that is free, and the machine needs {}",
            format_size(available),
            format_size(one.memory)
        ),
        "stop what uses memory there (`numastat -m`), make the machine smaller, or use `--placement auto`",
    )
}

fn too_few_cores(one: &Placing<'_>, node: u32, cores: &[Vec<HostCpu>]) -> Refusal {
    let processors: usize = cores.iter().map(Vec::len).sum();
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let needed = usize::try_from(one.vcpus).unwrap_or(usize::MAX);
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

    fn choose(
        wanted: PlacementUse,
        vcpus: u32,
        devices: &[Option<u32>],
        taken: &[u32],
        host: &CpuLayout,
    ) -> Result<Option<Placement>, Refusal> {
        let (devices, taken) = (devices.iter().copied().collect(), taken.iter().copied().collect());
        let one = Placing {
            wanted,
            vcpus,
            memory: 16 * GIB,
            has_huge_pages: false,
            devices: &devices,
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
        assert!(required(&[Some(0)]).contains("8GB of memory that is free"));
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

    proptest! {
        #[test]
        fn no_two_machines_share_a_core(wishes in proptest::collection::vec((1..9_u32, 0..2_u32), 1..8)) {
            let host = host(8);
            let mut taken = BTreeSet::new();
            for (vcpus, node) in wishes {
                let devices = BTreeSet::from([Some(node)]);
                let one = Placing {
                    wanted: PlacementUse::Auto, vcpus, memory: GIB, has_huge_pages: false,
                    devices: &devices, taken: &taken,
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
