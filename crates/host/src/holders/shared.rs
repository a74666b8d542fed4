//! Directories of the host around this one, shared by 9p or virtiofs and mounted here.

use model::Holder;

use super::disks::{LIMIT, unescape};
use crate::nodes::Share;
use crate::root::Root;

/// The mounts of these shares.
pub fn holders(root: &Root, shares: &[Share]) -> Vec<Holder> {
    if shares.is_empty() {
        return Vec::new();
    }
    let table = root.bytes("proc/self/mountinfo", LIMIT).unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let mounts: Vec<Mount> = table.lines().filter_map(Mount::parse).collect();
    let mut holders = Vec::new();
    for share in shares {
        for mount in mounts.iter().filter(|mount| mount.is_of(share)) {
            let user = format!("mounted at {} ({})", mount.at, mount.kind);
            holders.push(super::kernel(share.address, user, mount.tag.clone()));
        }
    }
    holders
}

/// A line of proc_pid_mountinfo(5) of one of the two file systems.
struct Mount {
    at: String,
    kind: &'static str,
    tag: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut file_system = file_system.split(' ');
        let kind =
            ["9p", "virtiofs"].into_iter().find(|kind| file_system.clone().next() == Some(kind))?;
        let tag = unescape(file_system.nth(1)?);
        Some(Self { at: unescape(mount.split(' ').nth(4)?), kind, tag })
    }

    /// Kernels before 6.9 do not show the tags of virtiofs: each device counts as used by each such mount.
    fn is_of(&self, share: &Share) -> bool {
        self.kind == share.kind && share.tag.as_ref().is_none_or(|tag| *tag == self.tag)
    }
}
