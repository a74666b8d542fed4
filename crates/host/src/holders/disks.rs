//! Disks in use by the kernel: mounted, swapped on, or part of something larger.

use model::{Address, Holder};

use super::below::{Below, Disk, device_number};
use crate::root::Root;

/// Mount tables of hosts with many containers are long.
const LIMIT: usize = 16 << 20;

/// Who uses the disks below a function.
pub fn holders(root: &Root, address: Address, below: &Below) -> Vec<Holder> {
    if below.disks.is_empty() {
        return Vec::new();
    }
    let holder =
        |user: String, name: &str| Holder { address, pid: None, user, by: format!("/dev/{name}") };
    let mounts = mounts(root);
    let swaps = root.text("proc/swaps").unwrap_or_default();
    let mut holders = Vec::new();
    for disk in &below.disks {
        let here = mounts.iter().filter(|mount| mount.is_of(disk));
        holders.extend(here.map(|m| holder(format!("mounted at {}", m.at), &disk.name)));
        let device = format!("/dev/{}", disk.name);
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&device)) {
            holders.push(holder("swap space".into(), &disk.name));
        }
        for upper in &disk.built_on {
            holders.push(holder(built(root, upper), &disk.name));
        }
    }
    let claimed = unexplained(root, &below.disks, &holders);
    holders.extend(
        claimed.into_iter().map(|name| holder("the kernel (ZFS, btrfs, ...)".into(), name)),
    );
    holders
}

/// The disks that are in use by something that shows nowhere: pools of ZFS and the further disks of btrfs take a disk
/// for themselves (`bd_prepare_to_claim` in block/bdev.c), which an exclusive open (open(2), `O_EXCL`) finds out.
fn unexplained<'a>(root: &Root, disks: &'a [Disk], known: &[Holder]) -> Vec<&'a str> {
    let claimed = |name: &&str| {
        let device = format!("/dev/{name}");
        // A whole disk is taken with its partitions, whose names begin with its own.
        let explained = known.iter().any(|holder| holder.by.starts_with(&device));
        root.is_host() && !explained && root.is_claimed(&device)
    };
    disks.iter().map(|disk| disk.name.as_str()).filter(claimed).collect()
}

/// A block device that is built on others, for a person.
fn built(root: &Root, name: &str) -> String {
    match root.text(&format!("sys/class/block/{name}/dm/name")) {
        Ok(mapped) => format!("part of {mapped} ({name}, device mapper)"),
        Err(_) if name.starts_with("md") => format!("part of the RAID {name}"),
        Err(_) => format!("part of {name}"),
    }
}

struct Mount {
    number: Option<(u32, u32)>,
    source: String,
    at: String,
}

impl Mount {
    /// By number; file systems of several devices (btrfs) have a number of their own and name one of the devices.
    fn is_of(&self, disk: &Disk) -> bool {
        self.number == Some(disk.number) || self.source == format!("/dev/{}", disk.name)
    }
}

/// The mounts of our own mount namespace (proc_pid_mountinfo(5)).
fn mounts(root: &Root) -> Vec<Mount> {
    let table = root.bytes("proc/self/mountinfo", LIMIT).unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let mut mounts: Vec<Mount> = Vec::new();
    for line in table.lines() {
        let mut fields = line.split(' ');
        let (Some(number), Some(at)) = (fields.nth(2), fields.nth(1)) else { continue };
        let source = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1));
        let source = unescape(source.unwrap_or_default());
        mounts.push(Mount { number: device_number(number), source, at: unescape(at) });
    }
    mounts
}

/// Undoes the kernel's `\040` for a space, `\011`, `\012` and `\134`.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}
