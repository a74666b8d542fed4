//! Processes that have a device node open or mapped.

use std::collections::BTreeSet;

use model::{Address, Holder, HostError};
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

use super::below::Node;
use crate::problem;
use crate::root::{Dir, Root};

/// The largest table of mappings that is looked through.
const MAPS: usize = 8 << 20;

/// The processes that have one of these nodes open or mapped, each named once for a node.
pub fn holders(root: &Root, targets: &[(Address, Node)]) -> Result<Vec<Holder>, HostError> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let names = root.names("proc").map_err(|e| problem::file(root, "list", "proc", e))?;
    let mut holders = Vec::new();
    for name in names {
        let Ok(pid) = name.parse::<u32>() else { continue };
        // Ended since the directory was listed.
        let Ok(process) = root.dir(&format!("proc/{pid}")) else { continue };
        let mut hits = BTreeSet::new();
        open_files(root, &process, targets, &mut hits);
        mappings(&process, targets, &mut hits);
        if hits.is_empty() {
            continue;
        }
        let user = name_of(&process, pid);
        for (address, node) in hits.iter().filter_map(|hit| targets.get(*hit)) {
            let (address, by) = (*address, node.path.clone());
            holders.push(Holder { address, pid: Some(pid), user: user.clone(), by });
        }
    }
    Ok(holders)
}

fn open_files(root: &Root, process: &Dir, targets: &[(Address, Node)], hits: &mut BTreeSet<usize>) {
    let Ok(files) = process.dir("fd") else { return };
    for name in files.names(".").unwrap_or_default() {
        let Ok(link) = files.link(&name) else { continue };
        // Sockets, pipes and anonymous inodes have no path.
        if !link.starts_with('/') {
            continue;
        }
        let path = link.strip_suffix(" (deleted)").unwrap_or(&link);
        let number = if root.is_host() { device_of(&files, &name) } else { None };
        hits.extend(matching(targets, |node| match number {
            Some((block, number)) => node.block == block && node.number == number,
            None => node.path == path,
        }));
    }
}

/// The device number of an open file, if it is a device. In a container it can have any path. It never waits for a
/// file server (`AT_STATX_DONT_SYNC`).
fn device_of(files: &Dir, name: &str) -> Option<(bool, (u32, u32))> {
    let stat = statx(files, name, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
    let block = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::CharacterDevice => false,
        FileType::BlockDevice => true,
        _ => return None,
    };
    Some((block, (stat.stx_rdev_major, stat.stx_rdev_minor)))
}

/// A mapping keeps a device in use after its file is closed.
fn mappings(process: &Dir, targets: &[(Address, Node)], hits: &mut BTreeSet<usize>) {
    let Ok(maps) = process.bytes("maps", MAPS) else { return };
    for line in maps.split(|byte| *byte == b'\n') {
        // address perms offset dev inode path
        let Some(at) = line.iter().position(|byte| *byte == b'/') else { continue };
        let Some(path) = line.get(at..).and_then(|path| std::str::from_utf8(path).ok()) else {
            continue;
        };
        if path.starts_with("/dev/") {
            hits.extend(matching(targets, |node| node.path == path));
        }
    }
}

fn matching<'a>(
    targets: &'a [(Address, Node)],
    same: impl Fn(&Node) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    targets.iter().enumerate().filter(move |(_, (_, node))| same(node)).map(|(index, _)| index)
}

/// `qemu-system-x86 (pid 4711, libvirtd.service)`.
fn name_of(process: &Dir, pid: u32) -> String {
    let name = process.text("comm").unwrap_or_else(|_| "a process".into());
    match process.text("cgroup").ok().as_deref().and_then(unit) {
        Some(unit) => format!("{name} (pid {pid}, {unit})"),
        None => format!("{name} (pid {pid})"),
    }
}

/// The systemd unit in a process's control group: the innermost service or scope.
fn unit(cgroup: &str) -> Option<&str> {
    let unified = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let named = || cgroup.lines().find_map(|line| line.split_once(":name=systemd:").map(|p| p.1));
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    unified.or_else(named)?.rsplit('/').find(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_unit_is_named() {
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope/x";
        assert_eq!(unit(user), Some("vte.scope"));
        assert_eq!(unit("0::/system.slice/libvirtd.service"), Some("libvirtd.service"));
        let old = "1:name=systemd:/system.slice/cron.service\n0::/";
        assert_eq!(unit(old), None);
        assert_eq!(
            unit("12:cpu:/\n1:name=systemd:/system.slice/cron.service"),
            Some("cron.service")
        );
    }
}
