//! What a function's driver made below it: network interfaces and block devices.

use model::{Address, Kind};

use crate::root::Dir;

/// `ata1/host0/target0:0:0/0:0:0:0/block/sda` is the deepest that storage goes.
const DEPTH: usize = 5;

/// The most directories that are looked into below one function: a storage shelf can have hundreds of disks.
const MOST: usize = 2048;

/// Directories of a function that never lead to a disk.
const DULL: [&str; 3] = ["power", "msi_irqs", "link"];

/// The network interfaces below a function; virtio has its own device between.
pub fn interfaces(dir: &Dir, present: &[String]) -> Vec<String> {
    let mut found = dir.names("net").unwrap_or_default();
    for device in present.iter().filter(|name| name.starts_with("virtio")) {
        found.extend(dir.names(&format!("{device}/net")).unwrap_or_default());
    }
    found
}

/// The whole disks and namespaces below a storage function.
pub fn block_devices(dir: &Dir, kind: Kind) -> Vec<String> {
    let mut found = Vec::new();
    match kind {
        Kind::Nvme => {
            for controller in dir.names("nvme").unwrap_or_default() {
                let names = dir.names(&format!("nvme/{controller}")).unwrap_or_default();
                found.extend(names.iter().filter_map(|name| namespace(name)));
            }
        }
        Kind::Storage => {
            let mut left = MOST;
            for name in dir.directories(".").unwrap_or_default() {
                search(dir, &name, DEPTH, &mut left, &mut found);
            }
        }
        _ => {}
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The block device of a namespace: `nvme0n1`, or for one path of several, `nvme0c1n1`, its head `nvme0n1`
/// (`nvme_mpath_set_disk_name` in drivers/nvme/host/multipath.c).
pub fn namespace(name: &str) -> Option<String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (front, space) = name.strip_prefix("nvme")?.split_once('n')?;
    let (subsystem, path) = front.split_once('c').unwrap_or((front, "0"));
    let right = digits(subsystem) && digits(path) && digits(space);
    right.then(|| format!("nvme{subsystem}n{space}"))
}

/// Looks for `block/` directories below `path`, without following links and without entering functions behind it.
fn search(dir: &Dir, path: &str, depth: usize, left: &mut usize, found: &mut Vec<String>) {
    let name = path.rsplit('/').next().unwrap_or(path);
    if depth == 0 || *left == 0 || DULL.contains(&name) || name.parse::<Address>().is_ok() {
        return;
    }
    *left -= 1;
    let Ok(names) = dir.directories(path) else { return };
    if name == "block" {
        found.extend(names);
        return;
    }
    for name in names {
        search(dir, &format!("{path}/{name}"), depth - 1, left, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_namespace_names_its_head() {
        assert_eq!(namespace("nvme0n1").as_deref(), Some("nvme0n1"));
        assert_eq!(namespace("nvme3c1n2").as_deref(), Some("nvme3n2"));
        for other in ["nvme0", "hwmon1", "ng0n1", "nvmexn1", "nvme0n1p1", "nvme0n"] {
            assert_eq!(namespace(other), None, "{other}");
        }
    }
}
