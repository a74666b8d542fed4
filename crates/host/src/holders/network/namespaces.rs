//! Interfaces that other network namespaces have: physical ones that were moved there, such as a container's virtual
//! function, and those built on an interface of ours, such as a container's macvlan. sysfs shows none of them here.
//!
//! A thread enters each namespace (setns(2)), asks by rtnetlink, and ends. That needs root. A namespace lives as long as a
//! process is in it or a mount shows it (`ip netns add`, container engines); one that only an open file keeps is not found.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use model::Address;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::process;
use crate::root::Root;
use crate::rtnetlink::dump;

/// The most namespaces that are entered: more are on no host.
const MOST: usize = 4096;

/// An interface of another network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Its name there.
    pub name: String,
    /// The PCI function that it belongs to, if it is a physical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Address>,
    /// Our interface that it is built on, if it is such a one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Its kind, if it is not a physical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A process in the namespace: `nginx (pid 4711)`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// Where the namespace is mounted, if no process is in it: `/run/netns/vpp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Whether it is set down: then it is known, and not used.
    #[serde(default, skip_serializing_if = "is_false")]
    pub down: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(down: &bool) -> bool {
    !*down
}

impl Elsewhere {
    /// The use, in words.
    pub fn words(&self) -> String {
        let Self { name, kind, of, at, .. } = self;
        let namespace = match at {
            Some(at) => format!("network namespace at {at}"),
            None => format!("network namespace of {of}"),
        };
        match kind {
            Some(kind) => format!("{kind} {name} in the {namespace}"),
            None => namespace,
        }
    }
}

/// The interfaces of all other network namespaces. `names` has the names of ours by index.
pub fn ask(root: &Root, names: &std::collections::HashMap<u32, String>) -> Vec<Elsewhere> {
    const OWN: &str = "/proc/self/ns/net";
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let (Ok(own), Ok(own_link)) = (File::open(OWN), root.link("proc/self/ns/net")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for place in others(root, &own_link, &mount_table()) {
        // It may be gone by now.
        let Ok(namespace) = File::open(place.path()) else { continue };
        let Some((links, our_id)) = inside(&namespace, &own) else { continue };
        let (of, at) = place.words(root);
        let counted = links.into_iter().filter_map(|link| counted(link, our_id, names));
        found.extend(counted.map(|one| Elsewhere { of: of.clone(), at: at.clone(), ..one }));
    }
    found
}

/// What keeps a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Process(u32),
    Mount(String),
}

impl Place {
    fn path(&self) -> PathBuf {
        match self {
            Self::Process(pid) => format!("/proc/{pid}/ns/net").into(),
            Self::Mount(at) => at.into(),
        }
    }

    /// The process in words, or the mount point.
    fn words(&self, root: &Root) -> (String, Option<String>) {
        match self {
            Self::Process(pid) => {
                let dir = root.dir(&format!("proc/{pid}")).ok();
                let program = dir.and_then(|dir| process::program(&dir));
                (format!("{} (pid {pid})", program.as_deref().unwrap_or("a process")), None)
            }
            Self::Mount(at) => (String::new(), Some(at.clone())),
        }
    }
}

/// Our mount table; empty, if it cannot be read. Mounts of namespaces are no part of a recording: it has what is in them.
fn mount_table() -> String {
    let mut text = Vec::new();
    let limit = u64::try_from(crate::holders::disks::LIMIT).unwrap_or(u64::MAX);
    let read = File::open("/proc/self/mountinfo");
    let _ = read.and_then(|file| file.take(limit).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

/// One place of each other network namespace: a process, if one is in it.
fn others(root: &Root, own: &str, mounts: &str) -> Vec<Place> {
    let processes = root.names("proc").unwrap_or_default();
    let mut pids: Vec<u32> = processes.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    // A process that is about to end has none.
    let of = |pid: u32| Some((root.link(&format!("proc/{pid}/ns/net")).ok()?, Place::Process(pid)));
    let places = pids.into_iter().filter_map(of).chain(mounted(mounts));
    let mut first: BTreeMap<String, Place> = BTreeMap::new();
    for (namespace, place) in places {
        if namespace != own && first.len() < MOST {
            first.entry(namespace).or_insert(place);
        }
    }
    first.into_values().collect()
}

/// The network namespaces that are mounted, and where (proc_pid_mountinfo(5)):
/// `602 24 0:4 net:[4026532249] /run/netns/vpp rw shared:301 - nsfs nsfs rw`.
fn mounted(table: &str) -> impl Iterator<Item = (String, Place)> {
    table.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let is_network = kind.starts_with("nsfs ") && root.starts_with("net:[");
        is_network.then(|| (root.to_owned(), Place::Mount(crate::holders::disks::unescape(at))))
    })
}

/// The interfaces in a namespace, and the number that it has for ours, if it has one.
fn inside(namespace: &File, own: &File) -> Option<(Vec<dump::Link>, Option<i32>)> {
    let work = || {
        let kind = LinkNameSpaceType::Network;
        move_into_link_name_space(namespace.as_fd(), Some(kind)).ok()?;
        let links = dump::links().ok()?;
        let own = u32::try_from(own.as_raw_fd()).ok()?;
        Some((links, dump::namespace_id(own).ok().flatten()))
    };
    std::thread::scope(|scope| scope.spawn(work).join().ok().flatten())
}

/// A physical interface, or one that is built on ours.
fn counted(
    link: dump::Link,
    our_id: Option<i32>,
    names: &std::collections::HashMap<u32, String>,
) -> Option<Elsewhere> {
    let is_ours = link.on_in.is_some() && link.on_in == our_id;
    // The other end of a pair is no lower interface.
    let is_pair = matches!(link.kind.as_deref(), Some("veth" | "netkit"));
    let on = link.on_elsewhere.filter(|_| is_ours && !is_pair);
    let on = on.and_then(|index| names.get(&index).cloned());
    let function = link.function.as_deref().and_then(|text| text.parse::<Address>().ok());
    let up = link.flags & super::links::IFF_UP != 0;
    let function = function.filter(|_| link.kind.is_none());
    (on.is_some() || function.is_some()).then(|| Elsewhere {
        name: link.name,
        function,
        on,
        kind: link.kind,
        of: String::new(),
        at: None,
        down: !up,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn only_what_uses_a_function_or_an_interface_of_ours_counts() {
        let names = HashMap::from([(2, "eno1".to_owned())]);
        let of = "nginx (pid 7)".to_owned();
        let macvlan = dump::Link {
            name: "eth0".into(),
            kind: Some("macvlan".into()),
            on_elsewhere: Some(2),
            on_in: Some(0),
            ..dump::Link::default()
        };
        let told = |link: &dump::Link, our_id| {
            let found = counted(link.clone(), our_id, &names)?;
            Some(Elsewhere { of: of.clone(), ..found })
        };
        let found = told(&macvlan, Some(0)).unwrap();
        assert_eq!(found.on.as_deref(), Some("eno1"));
        assert_eq!(found.words(), "macvlan eth0 in the network namespace of nginx (pid 7)");
        assert_eq!(told(&macvlan, Some(1)), None, "on an interface of a third namespace");
        assert_eq!(told(&macvlan, None), None);
        let pair = dump::Link { kind: Some("veth".into()), ..macvlan };
        assert_eq!(told(&pair, Some(0)), None);
        let moved = dump::Link {
            name: "net1".into(),
            function: Some("0000:02:00.1".into()),
            flags: 1,
            ..dump::Link::default()
        };
        let found = told(&moved, None).unwrap();
        assert_eq!(found.function, Some("0000:02:00.1".parse().unwrap()));
        assert_eq!(found.words(), "network namespace of nginx (pid 7)");
        assert!(!found.down);
        assert!(told(&dump::Link { flags: 0, ..moved }, None).unwrap().down);
    }

    /// `ip netns add` keeps a namespace by a mount: no process has to be in it.
    #[test]
    fn a_namespace_without_a_process_is_found_by_its_mount() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        for (pid, namespace) in [("1", "net:[1]"), ("7", "net:[7]"), ("8", "net:[7]")] {
            let dir = place.path().join(format!("proc/{pid}/ns"));
            std::fs::create_dir_all(&dir).unwrap();
            std::os::unix::fs::symlink(namespace, dir.join("net")).unwrap();
        }
        let table = "\
24 30 0:22 / /proc rw,nosuid shared:12 - proc proc rw
601 24 0:4 net:[7] /run/docker/netns/1f0c rw shared:300 - nsfs nsfs rw
602 24 0:4 net:[9] /run/netns/v\\040pp rw shared:301 - nsfs nsfs rw
603 24 0:4 net:[9] /run/netns/again rw shared:302 master:1 - nsfs nsfs rw
604 24 0:4 net:[1] /run/netns/ours rw - nsfs nsfs rw
605 24 0:4 mnt:[9] /run/snapd/ns/lxd.mnt rw - nsfs nsfs rw
606
";
        let found = others(&root, "net:[1]", table);
        assert_eq!(found, [Place::Process(7), Place::Mount("/run/netns/v pp".into())]);
        assert_eq!(others(&root, "net:[1]", ""), [Place::Process(7)]);
    }

    #[test]
    fn a_mounted_namespace_is_named_by_its_place() {
        let text = r#"{"name":"eth0","function":"0000:02:00.0","at":"/run/netns/vpp"}"#;
        let found: Elsewhere = serde_json::from_str(text).unwrap();
        assert_eq!(found.words(), "network namespace at /run/netns/vpp");
        assert!(!found.down);
    }

    /// Entering namespaces needs root, and a kernel with them.
    #[test]
    fn this_host_can_be_asked() {
        let root = Root::open(std::path::Path::new("/")).unwrap();
        for found in ask(&root, &HashMap::new()) {
            assert_eq!(found.on, None, "no interface of ours is known: {found:?}");
        }
    }
}
