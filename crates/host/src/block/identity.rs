//! Which device a block device is, whatever its name and number.

use std::path::Path;

use model::{Address, BlockIdentity};

use crate::nodes::{below, paths};
use crate::root::Root;

/// How many devices may be built on one another.
const DEEPEST: u32 = 8;

/// The attributes of a whole disk that name it, and no other one (Documentation/ABI/stable/sysfs-block and the drivers: `wwid` of
/// SCSI and NVMe, the serial numbers of virtio and NVMe, the register of a memory card, the UUIDs of the device mapper and RAID).
const NAMES: [&str; 8] = [
    "wwid",
    "device/wwid",
    "dm/uuid",
    "md/uuid",
    "serial",
    "device/serial",
    "device/cid",
    "loop/backing_file",
];

/// What tells a device from others: `at` is its directory, `disk` that of its whole disk.
pub fn identity(root: &Root, at: &str, disk: &str, size: u64) -> BlockIdentity {
    let read = |name: &&str| {
        let text = root.attribute(&format!("{disk}/{name}")).ok()?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    };
    let partition = root.attribute(&format!("{at}/partition")).ok();
    BlockIdentity {
        name: NAMES.iter().find_map(read),
        partition: partition.and_then(|text| text.trim().parse().ok()),
        size,
    }
}

/// The file behind a loop device, as device and inode: several loop devices can have the same.
pub fn backing(root: &Root, disk: &str) -> Option<(u64, u64)> {
    let path = root.attribute(&format!("{disk}/loop/backing_file")).ok()?;
    let found = rustix::fs::stat(Path::new(path.trim_end_matches('\n'))).ok()?;
    Some((found.st_dev, found.st_ino))
}

/// The PCI functions by which a device exists: its own, or those of the devices that it is built on.
pub fn functions(root: &Root, disk: &str) -> Vec<Address> {
    let mut found = Vec::new();
    collect(root, disk, DEEPEST, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(root: &Root, disk: &str, depth: u32, found: &mut Vec<Address>) {
    let target = root.link(disk).unwrap_or_default();
    if let Some((address, _)) = below(&target) {
        found.push(address);
        return;
    }
    if target.contains("/nvme-subsystem/") {
        found.extend(paths(root, target.rsplit('/').next().unwrap_or_default()));
        return;
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    let slaves =
        format!("sys/class/block/{}/slaves", target.rsplit('/').next().unwrap_or_default());
    for slave in root.names(&slaves).unwrap_or_default() {
        collect(root, &format!("sys/class/block/{slave}"), depth, found);
    }
}
