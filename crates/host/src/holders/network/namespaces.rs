//! Interfaces that other network namespaces have: physical ones that were moved there, such as a container's virtual
//! function, and those built on an interface of ours, such as a container's macvlan. sysfs shows none of them here.
//!
//! A thread enters each namespace (setns(2)), asks by rtnetlink, and ends. That needs root.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

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
    pub of: String,
}

impl Elsewhere {
    /// The use, in words.
    pub fn words(&self) -> String {
        let Self { name, kind, of, .. } = self;
        match kind {
            Some(kind) => format!("{kind} {name} in the network namespace of {of}"),
            None => format!("network namespace of {of}"),
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
    for pid in others(root, &own_link) {
        // It may be gone by now.
        let Ok(namespace) = File::open(format!("/proc/{pid}/ns/net")) else { continue };
        let Some((links, our_id)) = inside(&namespace, &own) else { continue };
        let program = root.dir(&format!("proc/{pid}")).ok().and_then(|dir| process::program(&dir));
        let of = format!("{} (pid {pid})", program.as_deref().unwrap_or("a process"));
        found.extend(links.into_iter().filter_map(|link| counted(link, our_id, names, &of)));
    }
    found
}

/// One process of each other network namespace.
fn others(root: &Root, own: &str) -> Vec<u32> {
    let processes = root.names("proc").unwrap_or_default();
    let mut pids: Vec<u32> = processes.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    let mut first: BTreeMap<String, u32> = BTreeMap::new();
    for pid in pids {
        // A process that is about to end has none.
        let Ok(namespace) = root.link(&format!("proc/{pid}/ns/net")) else { continue };
        if namespace != own && first.len() < MOST {
            first.entry(namespace).or_insert(pid);
        }
    }
    first.into_values().collect()
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

/// A physical interface that is up, or one that is built on ours.
fn counted(
    link: dump::Link,
    our_id: Option<i32>,
    names: &std::collections::HashMap<u32, String>,
    of: &str,
) -> Option<Elsewhere> {
    let is_ours = link.on_in.is_some() && link.on_in == our_id;
    // The other end of a pair is no lower interface.
    let is_pair = matches!(link.kind.as_deref(), Some("veth" | "netkit"));
    let on = link.on_elsewhere.filter(|_| is_ours && !is_pair);
    let on = on.and_then(|index| names.get(&index).cloned());
    let function = link.function.as_deref().and_then(|text| text.parse::<Address>().ok());
    let up = link.flags & super::links::IFF_UP != 0;
    let function = function.filter(|_| up && link.kind.is_none());
    (on.is_some() || function.is_some()).then(|| Elsewhere {
        name: link.name,
        function,
        on,
        kind: link.kind,
        of: of.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn only_what_uses_a_function_or_an_interface_of_ours_counts() {
        let names = HashMap::from([(2, "eno1".to_owned())]);
        let of = "nginx (pid 7)";
        let macvlan = dump::Link {
            name: "eth0".into(),
            kind: Some("macvlan".into()),
            on_elsewhere: Some(2),
            on_in: Some(0),
            ..dump::Link::default()
        };
        let told = |link: &dump::Link, our_id| counted(link.clone(), our_id, &names, of);
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
        assert_eq!(told(&dump::Link { flags: 0, ..moved }, None), None, "it is down");
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
