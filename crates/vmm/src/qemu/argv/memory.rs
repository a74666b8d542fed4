//! The guest's memory.

use model::{Cell, HugeMemory, MachineSpec};
use serde_json::{Value, json};

use super::{Line, MIB, insert};

const ID: &str = "ram";

/// The most threads that touch huge pages before the start: each clears about 10 GiB a second.
const MOST_THREADS: u32 = 16;

/// Memory in bytes, in huge pages if they were chosen, and on the NUMA nodes of the placement.
pub fn memory(line: &mut Line, spec: &MachineSpec) {
    line.option("-m", format!("size={}M", spec.memory.div_ceil(MIB)));
    let cells = cells(spec);
    if !cells.is_empty() {
        return nodes(line, spec, cells);
    }
    match (spec.huge_pages, &spec.placement) {
        (Some(huge), _) => line.option("-object", huge_pages(spec, huge)),
        (None, Some(placed)) => line.option(
            "-object",
            json!({
                "qom-type": "memory-backend-ram",
                "id": ID,
                "size": spec.memory,
                "host-nodes": [placed.node],
                "policy": policy(placed.is_bound),
            }),
        ),
        (None, None) => {}
    }
}

/// The guest's NUMA nodes, if it has several.
pub fn cells(spec: &MachineSpec) -> &[Cell] {
    spec.placement.as_ref().map_or(&[], |placed| &placed.cells)
}

/// The guest's NUMA nodes, each with its memory and the next of the virtual processors.
fn nodes(line: &mut Line, spec: &MachineSpec, cells: &[Cell]) {
    let is_bound = spec.placement.as_ref().is_some_and(|placed| placed.is_bound);
    let mut first = 0;
    for (number, cell) in cells.iter().enumerate() {
        let id = format!("{ID}{number}");
        let mut backend = json!({
            "id": id,
            "size": cell.memory,
            "host-nodes": [cell.node],
            "policy": policy(is_bound),
        });
        match spec.huge_pages {
            None => insert(&mut backend, "qom-type", json!("memory-backend-ram")),
            Some(huge) => in_huge_pages(&mut backend, spec.vcpus, huge.page),
        }
        line.option("-object", backend);
        let cpus = match cell.vcpus {
            0 => String::new(),
            count => format!(",cpus={first}-{}", first + count - 1),
        };
        line.option("-numa", format!("node,nodeid={number},memdev={id}{cpus}"));
        first += cell.vcpus;
    }
}

const fn policy(is_bound: bool) -> &'static str {
    if is_bound { "bind" } else { "preferred" }
}

fn huge_pages(spec: &MachineSpec, HugeMemory { page, node }: HugeMemory) -> Value {
    let mut backend = json!({"id": ID, "size": spec.memory});
    in_huge_pages(&mut backend, spec.vcpus, page);
    if let Some(node) = node {
        insert(&mut backend, "host-nodes", json!([node]));
        insert(&mut backend, "policy", json!("bind"));
    }
    backend
}

/// They are allocated at once: otherwise a guest would be killed when it touches one that another process has taken meanwhile.
fn in_huge_pages(backend: &mut Value, vcpus: u32, page: u64) {
    insert(backend, "qom-type", json!("memory-backend-memfd"));
    insert(backend, "hugetlb", json!(true));
    insert(backend, "hugetlbsize", json!(page));
    insert(backend, "prealloc", json!(true));
    insert(backend, "prealloc-threads", json!(vcpus.min(MOST_THREADS)));
}

/// The machine's own option for it.
pub fn machine(spec: &MachineSpec) -> &'static str {
    match (spec.huge_pages, &spec.placement) {
        (None, None) => "",
        _ if !cells(spec).is_empty() => "",
        _ => ",memory-backend=ram",
    }
}
