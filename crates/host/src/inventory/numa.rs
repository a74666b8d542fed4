//! NUMA nodes (Documentation/ABI/stable/sysfs-devices-node).

use std::collections::{BTreeMap, BTreeSet};

use model::{Function, NumaNode};

use crate::number_list::list;
use crate::root::Root;

const NODES: &str = "sys/devices/system/node";
const CPUS: &str = "sys/devices/system/cpu";

/// The node of a host with a single one. Firmware need not name it, and then the kernel shows -1 for all devices.
fn only(root: &Root) -> Option<u32> {
    let names = root.names(NODES).unwrap_or_default();
    let mut numbers = names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok());
    let first = numbers.next()?;
    numbers.next().is_none().then_some(first)
}

/// Places functions of an unknown node on the only one.
pub fn place<'a>(root: &Root, functions: impl IntoIterator<Item = &'a mut Function>) {
    let mut known = None;
    for function in functions {
        if function.numa_node.is_none() {
            function.numa_node = *known.get_or_insert_with(|| only(root));
        }
    }
}

/// Every NUMA node.
pub fn read(root: &Root) -> BTreeMap<u32, NumaNode> {
    let mut nodes = BTreeMap::new();
    for name in root.names(NODES).unwrap_or_default() {
        let Some(number) = name.strip_prefix("node").and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let text = |file: &str| root.attribute(&format!("{NODES}/{name}/{file}")).ok();
        let cpus = text("cpulist").unwrap_or_default();
        let distances = text("distance").unwrap_or_default();
        let node = NumaNode {
            sockets: sockets(root, list(&cpus)),
            cpus,
            memory: text("meminfo").as_deref().and_then(memory).unwrap_or_default(),
            distances: distances.split_ascii_whitespace().map_while(|d| d.parse().ok()).collect(),
        };
        nodes.insert(number, node);
    }
    nodes
}

/// Parses `Node 0 MemTotal:  1024 kB`; in bytes.
fn memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.split_once("MemTotal:").map(|(_, n)| n))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The sockets of some processors. The first processor of a socket covers all its others.
fn sockets(root: &Root, mut cpus: BTreeSet<u32>) -> Vec<u32> {
    let mut sockets = BTreeSet::new();
    while let Some(cpu) = cpus.pop_first() {
        let text = |file: &str| root.attribute(&format!("{CPUS}/cpu{cpu}/topology/{file}")).ok();
        // An offline processor has no topology.
        let Some(socket) = text("physical_package_id").and_then(|id| id.parse().ok()) else {
            continue;
        };
        sockets.insert(socket);
        let siblings = text("package_cpus_list").or_else(|| text("core_siblings_list"));
        for sibling in list(&siblings.unwrap_or_default()) {
            cpus.remove(&sibling);
        }
    }
    sockets.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_bytes() {
        let text = "Node 1 MemTotal:       2048 kB\nNode 1 MemFree:  4 kB";
        assert_eq!(memory(text), Some(2 << 20));
        assert_eq!(memory("Node 1 MemTotal: 99999999999999999999 kB"), None);
        assert_eq!(memory("nonsense"), None);
    }
}
