//! Processes that have a device node open or mapped.

use std::collections::{BTreeSet, HashMap};

use memchr::{memchr, memmem};
use model::HostError;

use crate::nodes::{Nodes, Number};
use crate::process;
use crate::root::{Dir, FileKind, Root};
use crate::{parallel, problem};

/// The most that is read of a table of mappings.
const MAPS: usize = 8 << 20;

/// A node that a process can open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenNode {
    /// The character device with this index in [`Nodes`].
    Character(usize),
    /// The disk with this index in [`Nodes`].
    Disk(usize),
    /// The node of this VFIO group.
    VfioGroup(u32),
}

/// The nodes to find, by number and by path.
#[derive(Debug, Default)]
pub struct Lookup {
    by_number: HashMap<(bool, Number), Vec<OpenNode>>,
    by_path: HashMap<String, Vec<OpenNode>>,
    /// Whether any node can be mapped. Disks do not count: a program that maps a disk also has it open.
    mappable: bool,
}

/// A process that has a node open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its process id.
    pub pid: u32,
    /// Its start time: another process with the same pid has another one.
    pub started: Option<u64>,
    /// Its program's name.
    pub program: Option<String>,
    /// Its name, pid and unit, for messages.
    pub user: String,
    /// The nodes that it has open or mapped.
    pub nodes: BTreeSet<OpenNode>,
}

impl Lookup {
    /// A search for all of these.
    pub fn of(nodes: &Nodes) -> Self {
        let mut lookup = Self::default();
        for (index, node) in nodes.characters.iter().enumerate() {
            lookup.add(false, node.number, node.path(), OpenNode::Character(index));
        }
        for (group, number) in &nodes.vfio_groups {
            lookup.add(false, *number, format!("/dev/vfio/{group}"), OpenNode::VfioGroup(*group));
        }
        for (index, disk) in nodes.disks.iter().enumerate() {
            lookup.add(true, disk.number, disk.path(), OpenNode::Disk(index));
        }
        lookup
    }

    fn add(&mut self, block: bool, number: Number, path: String, node: OpenNode) {
        self.by_number.entry((block, number)).or_default().push(node);
        self.by_path.entry(path).or_default().push(node);
        self.mappable |= !block;
    }
}

/// The processes that have one of these nodes open or mapped, sorted by pid.
pub fn find(root: &Root, lookup: &Lookup) -> Result<Vec<Hit>, HostError> {
    if lookup.by_path.is_empty() {
        return Ok(Vec::new());
    }
    let names = root.names("proc").map_err(|e| problem::file(root, "list", "proc", e))?;
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    Ok(parallel::map(&pids, |pid| examine(root, lookup, *pid)).into_iter().flatten().collect())
}

fn examine(root: &Root, lookup: &Lookup, pid: u32) -> Option<Hit> {
    let path = format!("proc/{pid}");
    let mut nodes = BTreeSet::new();
    // Most are kernel threads without open files: one listing must suffice for them.
    let open = root.names(&format!("{path}/fd")).unwrap_or_default();
    if !open.is_empty() {
        open_files(root, &root.dir(&format!("{path}/fd")).ok()?, &open, lookup, &mut nodes);
    }
    if lookup.mappable {
        mappings(root, &format!("{path}/maps"), lookup, &mut nodes);
    }
    if nodes.is_empty() {
        return None;
    }
    // `None` if it exited since its files were listed.
    let process = root.dir(&path).ok()?;
    let program = process::program(&process);
    let user = name_of(&process, program.as_deref(), pid);
    // Not for a recording: its processes do not exist elsewhere, and the file contains memory addresses.
    let stat = if root.is_traced() { None } else { process::stat(&process) };
    let started = stat.map(|stat| stat.start_time);
    Some(Hit { pid, started, program, user, nodes })
}

fn open_files(
    root: &Root,
    files: &Dir,
    names: &[String],
    lookup: &Lookup,
    found: &mut BTreeSet<OpenNode>,
) {
    for name in names {
        let hits = if root.is_host() {
            // By number: in a container a device can have any path.
            let hits = device_of(files, name).and_then(|device| lookup.by_number.get(&device));
            if hits.is_some() {
                // A recording has what was read: it finds the device by this path, because it has no open files.
                let _ = files.link(name);
            }
            hits
        } else {
            let link = files.link(name).unwrap_or_default();
            let path = link.strip_suffix(" (deleted)").unwrap_or(&link);
            lookup.by_path.get(path)
        };
        found.extend(hits.into_iter().flatten());
    }
}

/// The number of an open file that is a device. Never waits for a file server (`AT_STATX_DONT_SYNC`).
fn device_of(files: &Dir, name: &str) -> Option<(bool, Number)> {
    let (kind, number) = files.device(name)?;
    Some((kind == FileKind::Block, number))
}

/// Finds mapped nodes: a mapping keeps a device in use after its file is closed.
fn mappings(root: &Root, path: &str, lookup: &Lookup, found: &mut BTreeSet<OpenNode>) {
    let Ok(maps) = root.bytes(path, MAPS) else { return };
    found.extend(mapped(&maps).filter_map(|path| lookup.by_path.get(path)).flatten());
}

/// The paths below `/dev` in a table of mappings: `address perms offset dev inode path`.
fn mapped(maps: &[u8]) -> impl Iterator<Item = &str> {
    memmem::find_iter(maps, b" /dev/").filter_map(|at| {
        let rest = maps.get(at + 1..)?;
        std::str::from_utf8(rest.get(..memchr(b'\n', rest).unwrap_or(rest.len()))?).ok()
    })
}

/// Formats a process: `qemu-system-x86 (pid 4711, libvirtd.service)`.
fn name_of(process: &Dir, program: Option<&str>, pid: u32) -> String {
    let name = program.unwrap_or("a process");
    match process.text("cgroup").ok().as_deref().and_then(unit_and_user) {
        Some(unit) => format!("{name} (pid {pid}, {unit})"),
        None => format!("{name} (pid {pid})"),
    }
}

/// The unit, and of a user's session or service manager also the user: `session-2.scope of user 1000`. A user's own unit can
/// have the name of a system's.
pub fn unit_and_user(cgroup: &str) -> Option<String> {
    let unit = unit(cgroup)?;
    let mut slices = cgroup.lines().flat_map(|line| line.split('/'));
    let user = slices.find_map(|part| part.strip_prefix("user-")?.strip_suffix(".slice"));
    Some(match user.and_then(|uid| uid.parse::<u32>().ok()) {
        Some(uid) => format!("{unit} of user {uid}"),
        None => unit.to_owned(),
    })
}

/// The systemd unit in a process's control group: the innermost service or scope.
pub fn unit(cgroup: &str) -> Option<&str> {
    let unified = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let named = || cgroup.lines().find_map(|line| line.split_once(":name=systemd:").map(|p| p.1));
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    unified.or_else(named)?.rsplit('/').find(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_paths_of_devices_are_taken_from_a_table_of_mappings() {
        let maps = b"7f00-7f01 rw-s 0 00:06 5 /dev/nvidia1\n7f02-7f03 r--p 0 08:01 9 /lib/dev/x\n\
                     7f04-7f05 rw-p 0 00:00 0\n7f06-7f07 rw-s 0 00:06 7 /dev/dri/card0";
        assert_eq!(mapped(maps).collect::<Vec<_>>(), ["/dev/nvidia1", "/dev/dri/card0"]);
    }

    proptest! {
        #[test]
        fn no_table_panics(table in proptest::collection::vec(any::<u8>(), 0..200), text in "( /dev/|[0-9a-f]-|\n|.){0,30}") {
            let _ = mapped(&table).count();
            let _ = mapped(text.as_bytes()).count();
            let _ = unit_and_user(&text);
        }
    }

    #[test]
    fn the_innermost_unit_is_named() {
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope/x";
        assert_eq!(unit(user), Some("vte.scope"));
        assert_eq!(unit_and_user(user).as_deref(), Some("vte.scope of user 1000"));
        assert_eq!(unit("0::/system.slice/libvirtd.service"), Some("libvirtd.service"));
        let old = "1:name=systemd:/system.slice/cron.service\n0::/";
        assert_eq!(unit(old), None);
        assert_eq!(
            unit("12:cpu:/\n1:name=systemd:/system.slice/cron.service"),
            Some("cron.service")
        );
    }
}
