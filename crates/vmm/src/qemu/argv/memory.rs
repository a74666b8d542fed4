//! The guest's memory.

use model::{HugeMemory, MachineSpec};
use serde_json::{Value, json};

use super::{Line, MIB, insert};

const ID: &str = "ram";

/// The most threads that touch huge pages before the start: each clears about 10 GiB a second.
const MOST_THREADS: u32 = 16;

/// Memory in bytes, in huge pages if they were chosen, and on the NUMA node of the placement.
pub fn memory(line: &mut Line, spec: &MachineSpec) {
    // Both must be the same number, and `-m` is in MiB.
    let megabytes = spec.memory.div_ceil(MIB);
    line.option("-m", format!("size={megabytes}M"));
    match (spec.huge_pages, &spec.placement) {
        (Some(huge), _) => line.option("-object", huge_pages(spec, huge)),
        (None, Some(placed)) => line.option(
            "-object",
            json!({
                "qom-type": "memory-backend-ram",
                "id": ID,
                "size": megabytes.saturating_mul(MIB),
                "host-nodes": [placed.node],
                "policy": if placed.is_bound { "bind" } else { "preferred" },
            }),
        ),
        (None, None) => {}
    }
}

/// They are allocated at once: otherwise a guest would be killed when it touches one that another process has taken meanwhile.
fn huge_pages(spec: &MachineSpec, HugeMemory { page, node }: HugeMemory) -> Value {
    let mut backend = json!({
        "qom-type": "memory-backend-memfd",
        "id": ID,
        "size": spec.memory,
        "hugetlb": true,
        "hugetlbsize": page,
        "prealloc": true,
        "prealloc-threads": spec.vcpus.min(MOST_THREADS),
    });
    if let Some(node) = node {
        insert(&mut backend, "host-nodes", json!([node]));
        insert(&mut backend, "policy", json!("bind"));
    }
    backend
}

/// The machine's own option for it.
pub const fn machine(spec: &MachineSpec) -> &'static str {
    match (spec.huge_pages, &spec.placement) {
        (None, None) => "",
        _ => ",memory-backend=ram",
    }
}
