//! Directories of the host around this one, shared by 9p or virtiofs and mounted here.

use std::collections::BTreeSet;

use model::{Holder, HolderKind};

use super::disks::{LIMIT, unescape};
use crate::nodes::Share;
use crate::root::Root;

/// The mounts of these shares.
pub fn holders(root: &Root, shares: &[Share]) -> Vec<Holder> {
    if shares.is_empty() {
        return Vec::new();
    }
    let mut holders = Vec::new();
    for table in tables(root) {
        let mounts: Vec<Mount> = table.lines().filter_map(Mount::parse).collect();
        for share in shares {
            for mount in mounts.iter().filter(|mount| mount.is_of(share)) {
                let by = format!("{} share {}", mount.kind, mount.tag);
                let user = format!("mounted at {}", mount.at);
                let holder = super::unowned(share.address, HolderKind::Share, user, by);
                if !holders.contains(&holder) {
                    holders.push(holder);
                }
            }
        }
    }
    holders
}

/// The mount tables of all mount namespaces: a share that only a container has mounted is in use too. (The disks of
/// containers are found by an exclusive open.)
fn tables(root: &Root) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut tables = Vec::new();
    let processes = root.names("proc").unwrap_or_default();
    let is_pid = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    for process in std::iter::once("self".to_owned()).chain(processes.into_iter().filter(is_pid)) {
        // A kernel thread and a process that has just ended have no namespace that can be read.
        let namespace = root.link(&format!("proc/{process}/ns/mnt")).unwrap_or_default();
        if process != "self" && (namespace.is_empty() || known.contains(&namespace)) {
            continue;
        }
        known.insert(namespace);
        let table = root.bytes(&format!("proc/{process}/mountinfo"), LIMIT).unwrap_or_default();
        tables.push(String::from_utf8_lossy(&table).into_owned());
    }
    tables
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
