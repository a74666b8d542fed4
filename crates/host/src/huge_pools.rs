//! Huge pages that are reserved (Documentation/admin-guide/mm/hugetlbpage.rst).

use model::HugePool;

use crate::root::Root;

/// Those of all nodes together, and the directory of the nodes.
const ALL: &str = "sys/kernel/mm/hugepages";
const NODES: &str = "sys/devices/system/node";

/// Reads them; what cannot be read is left out.
pub fn read(root: &Root) -> Vec<HugePool> {
    let mut pools = of(root, ALL, None);
    for name in root.names(NODES).unwrap_or_default() {
        if let Some(node) = name.strip_prefix("node").and_then(|number| number.parse().ok()) {
            pools.extend(of(root, &format!("{NODES}/{name}/hugepages"), Some(node)));
        }
    }
    pools
}

/// The sizes in one directory.
fn of(root: &Root, dir: &str, node: Option<u32>) -> Vec<HugePool> {
    let pool = |name: &String| {
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count =
            |file: &str| root.attribute(&format!("{dir}/{name}/{file}")).ok()?.parse::<u64>().ok();
        // Pages that are promised to a mapping and not used yet; nodes have no such count.
        let promised = count("resv_hugepages").unwrap_or_default();
        let free = count("free_hugepages")?.saturating_sub(promised);
        Some(HugePool { node, page: kib.checked_mul(1024)?, free })
    };
    root.names(dir).unwrap_or_default().iter().filter_map(pool).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pages_that_are_promised_are_not_free() {
        let root = tempfile::tempdir().unwrap();
        let write = |dir: &str, file: &str, text: &str| {
            let dir = root.path().join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(file), text).unwrap();
        };
        write(&format!("{ALL}/hugepages-2048kB"), "free_hugepages", "100\n");
        write(&format!("{ALL}/hugepages-2048kB"), "resv_hugepages", "30\n");
        write(&format!("{NODES}/node1/hugepages/hugepages-1048576kB"), "free_hugepages", "4\n");
        write(&format!("{ALL}/hugepages-x"), "free_hugepages", "4\n");
        let pools = read(&Root::open(root.path()).unwrap());
        let all = HugePool { node: None, page: 2 << 20, free: 70 };
        let node = HugePool { node: Some(1), page: 1 << 30, free: 4 };
        assert_eq!(pools, [all, node]);
    }
}
