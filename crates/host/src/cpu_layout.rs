//! The processors and the memory of the host (Documentation/admin-guide/cputopology.rst,
//! Documentation/ABI/stable/sysfs-devices-node).

use std::collections::{BTreeMap, BTreeSet};

use model::{CpuLayout, HostCpu};

use crate::number_list::list;
use crate::root::Root;

const NODES: &str = "sys/devices/system/node";
const CPUS: &str = "sys/devices/system/cpu";

/// Reads them. A host without NUMA has one node; what cannot be read is left out, and so are processors that this process may
/// not use: its machines may not either.
pub fn read(root: &Root) -> CpuLayout {
    let online = root.attribute(&format!("{CPUS}/online")).unwrap_or_default();
    let isolated = list(&root.attribute(&format!("{CPUS}/isolated")).unwrap_or_default());
    let mut layout = CpuLayout::default();
    let mut node_of = BTreeMap::new();
    for name in root.names(NODES).unwrap_or_default() {
        let Some(node) = name.strip_prefix("node").and_then(|number| number.parse().ok()) else {
            continue;
        };
        let text = |file: &str| root.attribute(&format!("{NODES}/{name}/{file}"));
        for cpu in list(&text("cpulist").unwrap_or_default()) {
            node_of.insert(cpu, node);
        }
        layout.nodes.insert(node, available(&text("meminfo").unwrap_or_default()));
    }
    if layout.nodes.is_empty() {
        layout.nodes.insert(0, available(&root.attribute("proc/meminfo").unwrap_or_default()));
    }
    let allowed = allowed(&root.attribute("proc/self/status").unwrap_or_default());
    for number in list(&online) {
        if allowed.as_ref().is_some_and(|allowed| !allowed.contains(&number)) {
            continue;
        }
        let Some(node) =
            node_of.get(&number).copied().or_else(|| layout.nodes.keys().next().copied())
        else {
            continue;
        };
        let core = siblings(root, number).first().copied().unwrap_or(number);
        layout.cpus.push(HostCpu { number, node, core, isolated: isolated.contains(&number) });
    }
    layout
}

/// The processors that a process may use (`Cpus_allowed_list` in Documentation/filesystems/proc.rst); `None` if it is not told.
fn allowed(status: &str) -> Option<BTreeSet<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list(line.trim()))
}

/// The processors of a processor's core.
fn siblings(root: &Root, number: u32) -> BTreeSet<u32> {
    let text = |file: &str| root.attribute(&format!("{CPUS}/cpu{number}/topology/{file}")).ok();
    // `core_cpus_list` is the newer name, since Linux 5.3.
    list(&text("core_cpus_list").or_else(|| text("thread_siblings_list")).unwrap_or_default())
}

/// Memory that is free, and that of files, which the kernel frees when it is needed; in bytes. The lines of a node begin with
/// `Node 0`.
fn available(meminfo: &str) -> u64 {
    const PARTS: [&str; 4] = ["MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:"];
    let mut kib: u64 = 0;
    for line in meminfo.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let mut pairs = words.iter().zip(words.iter().skip(1));
        if let Some((_, count)) = pairs.find(|(name, _)| PARTS.contains(name)) {
            kib = kib.saturating_add(count.parse().unwrap_or_default());
        }
    }
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn processors_have_a_node_and_a_core() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write(&format!("{CPUS}/online"), "0-3\n");
        write(&format!("{CPUS}/isolated"), "3\n");
        write(&format!("{CPUS}/cpu1/topology/core_cpus_list"), "1,3\n");
        write(&format!("{CPUS}/cpu3/topology/thread_siblings_list"), "1,3\n");
        write(&format!("{NODES}/node0/cpulist"), "0,2\n");
        write(&format!("{NODES}/node1/cpulist"), "1,3,9\n");
        write(
            &format!("{NODES}/node1/meminfo"),
            "Node 1 MemTotal: 9 kB\nNode 1 MemFree:  4 kB\nNode 1 Inactive(file): 2 kB\nNode 1 HugePages_Free: 7\n",
        );
        let layout = read(&Root::open(root.path()).unwrap());
        let cpu = |number, node, core, isolated| HostCpu { number, node, core, isolated };
        let expected =
            [cpu(0, 0, 0, false), cpu(1, 1, 1, false), cpu(2, 0, 2, false), cpu(3, 1, 1, true)];
        assert_eq!(layout.cpus, expected);
        assert_eq!(layout.nodes, BTreeMap::from([(0, 0), (1, 6 * 1024)]));
        write("proc/self/status", "Name:\thandover\nCpus_allowed:\t6\nCpus_allowed_list:\t1-2\n");
        let layout = read(&Root::open(root.path()).unwrap());
        assert_eq!(layout.cpus, expected[1..3]);
    }
}
