//! Disks that the kernel uses: mounted, as swap space, or as part of another block device.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{Address, Holder, HolderKind};

use crate::nodes::{Disk, Number, device_number};
use crate::root::Root;

/// The most that is read of a mount table, which is long on hosts with many containers.
pub(super) const LIMIT: usize = 16 << 20;

/// The users of these disks.
pub fn holders(root: &Root, disks: &[Disk]) -> Vec<Holder> {
    if disks.is_empty() {
        return Vec::new();
    }
    let mounts = Mounts::read(root);
    let swaps = swaps(root);
    let mut holders = Vec::new();
    for disk in disks {
        let mut used_as = |kind: HolderKind, user: String| {
            holders.push(super::unowned(disk.address, kind, user, disk.path()));
        };
        for at in mounts.of(disk.number, &disk.path()) {
            used_as(HolderKind::Mount, format!("mounted at {at}"));
        }
        if swaps.contains(&disk.path()) {
            used_as(HolderKind::Swap, "swap space".into());
        }
        for user in above(root, &disk.name) {
            used_as(HolderKind::Volume, user);
        }
    }
    let unexplained = unexplained(root, disks, &holders);
    holders.extend(unexplained);
    holders
}

/// Who uses these block devices, in words, each with the device's name: `sda1 is mounted at /srv`.
pub fn block_users(root: &Root, devices: &[(String, Number)]) -> Vec<String> {
    let mounts = Mounts::read(root);
    let swaps = swaps(root);
    let mut users = Vec::new();
    for (name, number) in devices {
        let path = format!("/dev/{}", name.replace('!', "/"));
        users.extend(mounts.of(*number, &path).map(|at| format!("{name} is mounted at {at}")));
        if swaps.contains(&path) {
            users.push(format!("{name} is swap space"));
        }
        users.extend(above(root, name).into_iter().map(|user| format!("{name} is {user}")));
    }
    users
}

/// What is built on a block device. Device mapper, RAID and others link the disks that they use (`bd_link_disk_holder` in
/// block/holder.c).
fn above(root: &Root, name: &str) -> Vec<String> {
    let above = root.names(&format!("sys/class/block/{name}/holders"));
    above.unwrap_or_default().iter().map(|upper| built(root, upper)).collect()
}

/// The disks in use without a visible user. ZFS pools and the further disks of btrfs claim a disk exclusively
/// (`bd_prepare_to_claim` in block/bdev.c), which an exclusive open (open(2), `O_EXCL`) detects.
fn unexplained(root: &Root, disks: &[Disk], known: &[Holder]) -> Vec<Holder> {
    let mut explained: BTreeMap<Address, Vec<&str>> = BTreeMap::new();
    for holder in known {
        explained.entry(holder.address).or_default().push(&holder.by);
    }
    let claimed = |disk: &&Disk| {
        let path = disk.path();
        // A whole disk is claimed together with its partitions, whose names begin with its own.
        let known = explained.get(&disk.address).map(Vec::as_slice).unwrap_or_default();
        !known.iter().any(|by| by.starts_with(&path)) && root.is_claimed(&path)
    };
    let user = "a kernel file system or volume manager";
    let kind = HolderKind::Kernel;
    let holder = |disk: &Disk| super::unowned(disk.address, kind, user.into(), disk.path());
    disks.iter().filter(claimed).map(holder).collect()
}

/// Describes a block device that is built on others.
fn built(root: &Root, name: &str) -> String {
    match root.text(&format!("sys/class/block/{name}/dm/name")) {
        Ok(mapped) => format!("part of {mapped} ({name}, device mapper)"),
        Err(_) if name.starts_with("md") => format!("part of the RAID {name}"),
        Err(_) => format!("part of {name}"),
    }
}

fn swaps(root: &Root) -> BTreeSet<String> {
    let table = root.text("proc/swaps").unwrap_or_default();
    table.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The mounts of our own mount namespace (proc_pid_mountinfo(5)).
#[derive(Debug, Default)]
struct Mounts {
    /// The mount points, in the table's order.
    points: Vec<String>,
    by_number: HashMap<Number, Vec<usize>>,
    by_source: HashMap<String, Vec<usize>>,
}

impl Mounts {
    fn read(root: &Root) -> Self {
        let table = root.bytes("proc/self/mountinfo", LIMIT).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&table))
    }

    fn parse(table: &str) -> Self {
        let mut mounts = Self::default();
        for line in table.lines() {
            let mut fields = line.split(' ');
            let (Some(number), Some(at)) = (fields.nth(2), fields.nth(1)) else { continue };
            let source = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1));
            let index = mounts.points.len();
            mounts.points.push(unescape(at));
            if let Some(number) = device_number(number) {
                mounts.by_number.entry(number).or_default().push(index);
            }
            if let Some(source) = source.filter(|source| source.starts_with("/dev/")) {
                mounts.by_source.entry(unescape(source)).or_default().push(index);
            }
        }
        mounts
    }

    /// The mount points of a disk: by number, and by source, because file systems on several devices (btrfs) have their
    /// own number and name one of the devices.
    fn of(&self, number: Number, path: &str) -> impl Iterator<Item = &String> {
        let by_number = self.by_number.get(&number);
        let by_source = self.by_source.get(path);
        let both: BTreeSet<usize> =
            by_number.into_iter().chain(by_source).flatten().copied().collect();
        both.into_iter().filter_map(|index| self.points.get(index))
    }
}

/// Decodes the kernel's escapes: `\040` for a space, `\011`, `\012` and `\134`.
pub(super) fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mount_is_found_by_number_or_by_source_and_reported_once() {
        let table = "22 1 259:1 / /boot\\040efi rw - vfat /dev/nvme0n1p1 rw\n\
                     23 1 0:31 / /data rw shared:1 - btrfs /dev/nvme0n1p1 rw\nnonsense\n";
        let mounts = Mounts::parse(table);
        let of = mounts.of((259, 1), "/dev/nvme0n1p1");
        assert_eq!(of.collect::<Vec<_>>(), ["/boot efi", "/data"]);
    }

    proptest! {
        #[test]
        fn no_table_panics(table in "([0-9]{0,3} |[0-9]{0,3}:[0-9]{0,3} |/dev/sda |/\\\\040x |- |\n|.){0,40}") {
            let _ = Mounts::parse(&table);
        }
    }
}
