//! Interfaces, and what they are built on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::root::Root;
use crate::rtnetlink::{Refused, dump};

/// `IFF_UP` in include/uapi/linux/if.h.
pub const IFF_UP: u32 = 1;

/// The depth of the search: a tunnel over a VLAN on a bridge on a bond on an interface.
const DEPTH: usize = 8;

/// The directory of interfaces.
const DIR: &str = "sys/class/net";

/// The interfaces of a host, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Links {
    /// The interfaces.
    pub links: BTreeMap<String, Link>,
}

/// An interface.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Whether it is set up, with or without a carrier.
    pub up: bool,
    /// `bridge`, `bond`, `vlan`, `openvswitch`, ...; physical interfaces have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The bridge, bond, ... that it is a port of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// The interfaces that it is built on, but for its ports.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub on: BTreeSet<String>,
    /// The other end, if it is a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
}

impl Links {
    /// Asks the running kernel. Also returns the names by index.
    pub fn ask() -> Result<(Self, HashMap<u32, String>), Refused> {
        let all = dump::links()?;
        let names: HashMap<u32, String> =
            all.iter().map(|link| (link.index, link.name.clone())).collect();
        let named = |index: Option<u32>| index.and_then(|index| names.get(&index).cloned());
        let links = all.into_iter().map(|link| {
            let (master, on) = (named(link.master), named(link.on));
            let up = link.flags & IFF_UP != 0;
            let on = on.into_iter().collect();
            (link.name, Link { up, kind: link.kind, master, on, remote: link.remote })
        });
        Ok((Self { links: links.collect() }, names))
    }

    /// Reads sysfs.
    pub fn read(root: &Root) -> Self {
        let names = root.names(DIR).unwrap_or_default();
        let mut all = Self::default();
        let mut upper: Vec<(String, String)> = Vec::new();
        for name in names {
            let at = format!("{DIR}/{name}");
            let entries = root.names(&at).unwrap_or_default();
            let mut link = Link { up: is_up(root, &at), kind: kind(root, &at), ..Link::default() };
            for entry in &entries {
                if let Some(below) = entry.strip_prefix("lower_") {
                    link.on.insert(below.to_owned());
                } else if let Some(above) = entry.strip_prefix("upper_") {
                    upper.push((name.clone(), above.to_owned()));
                } else if entry == "master" {
                    link.master = root.link_name(&format!("{at}/master")).ok();
                }
            }
            all.links.insert(name, link);
        }
        // A tree can lack the directories of virtual interfaces.
        for (below, above) in upper {
            all.links.entry(above).or_insert_with(unknown).on.insert(below);
        }
        let ports: Vec<(String, String)> = all
            .links
            .iter()
            .filter_map(|(name, link)| Some((name.clone(), link.master.clone()?)))
            .collect();
        for (port, master) in ports {
            all.links.entry(master).or_insert_with(unknown).on.remove(&port);
        }
        all
    }

    /// Whether an interface is set up. An unknown one is.
    pub fn is_up(&self, name: &str) -> bool {
        self.links.get(name).is_none_or(|link| link.up)
    }

    /// An interface and all that are built on it, the nearest first.
    pub fn stack<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let mut stack = vec![name];
        let mut next = vec![name];
        for _ in 0..DEPTH {
            let mut found: Vec<&str> = Vec::new();
            for below in next {
                found.extend(self.above(below));
            }
            found.retain(|name| !stack.contains(name));
            found.sort_unstable();
            found.dedup();
            if found.is_empty() {
                break;
            }
            stack.extend(&found);
            next = found;
        }
        stack
    }

    fn above<'a>(&'a self, name: &str) -> Vec<&'a str> {
        let mut above: Vec<&str> = Vec::new();
        if let Some(master) = self.links.get(name).and_then(|link| link.master.as_deref()) {
            above.push(master);
            // The internal ports of an Open vSwitch have no link to the switch's other ports.
            if self.is(master, "openvswitch") {
                above.extend(self.of_kind("openvswitch"));
            }
        }
        let on = self.links.iter().filter(|(_, link)| link.on.contains(name));
        above.extend(on.map(|(upper, _)| upper.as_str()));
        above
    }

    fn is(&self, name: &str, kind: &str) -> bool {
        self.links.get(name).is_some_and(|link| link.kind.as_deref() == Some(kind))
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.links.iter().filter(move |(_, link)| link.kind.as_deref() == Some(kind));
        all.map(|(name, _)| name.as_str())
    }

    /// What it is a port of, and this in words, with the other ports of a bridge: those are taps of machines and pairs of containers.
    pub fn port(&self, name: &str) -> Option<(String, String)> {
        let master = self.links.get(name)?.master.as_deref()?;
        let kind = self.links.get(master).and_then(|link| link.kind.as_deref());
        let ports = self.links.iter().filter(|(_, link)| link.master.as_deref() == Some(master));
        let peers: Vec<String> =
            ports.map(|(port, _)| port.clone()).filter(|port| port != name).collect();
        let words = match kind {
            Some("vrf") => format!("in the VRF {master}"),
            Some("bond" | "team") => format!("port of {master}"),
            _ if peers.is_empty() => format!("port of {master}"),
            _ => format!("port of {master} with {}", super::some(&peers)),
        };
        Some((master.to_owned(), words))
    }

    /// What is built on it, and this in words, but for what it is a port of.
    pub fn built_on(&self, name: &str) -> Vec<(String, String)> {
        let on = self.links.iter().filter(|(_, link)| link.on.contains(name));
        let words = |upper: &str, link: &Link| match link.kind.as_deref() {
            Some("vlan") => format!("VLAN {upper}"),
            Some("vxlan") => format!("VXLAN {upper}"),
            Some(kind @ ("macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "macsec" | "geneve")) => {
                format!("{kind} {upper}")
            }
            Some("wireguard") => format!("WireGuard {upper}"),
            Some("gre" | "gretap" | "ip6gre" | "ip6gretap" | "ipip" | "sit" | "ip6tnl" | "vti") => {
                format!("tunnel {upper}")
            }
            _ => format!("lower interface of {upper}"),
        };
        on.map(|(upper, link)| (upper.clone(), words(upper, link))).collect()
    }

    /// The tunnels that are set up, with their other ends.
    pub fn tunnels(&self) -> impl Iterator<Item = (&String, IpAddr)> {
        let up = self.links.iter().filter(|(_, link)| link.up);
        up.filter_map(|(name, link)| Some((name, link.remote?)))
    }
}

/// An interface of which only the name is known.
fn unknown() -> Link {
    Link { up: true, ..Link::default() }
}

/// Whether an interface is set up. Without flags its operational state tells: an old recording has neither.
fn is_up(root: &Root, at: &str) -> bool {
    let flags = root.attribute(&format!("{at}/flags")).ok();
    let flags = flags.and_then(|text| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok());
    match flags {
        Some(flags) => flags & IFF_UP != 0,
        None => !matches!(
            root.attribute(&format!("{at}/operstate")).as_deref(),
            Ok("down" | "notpresent")
        ),
    }
}

/// The kind, from the device type that some drivers set (`SET_NETDEV_DEVTYPE`), or from the kind's own attributes.
fn kind(root: &Root, at: &str) -> Option<String> {
    let uevent = root.attribute(&format!("{at}/uevent")).unwrap_or_default();
    let typed = uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
    if let Some(kind) = typed.filter(|kind| *kind != "wlan") {
        return Some(kind.to_owned());
    }
    let of = |entry: &str| root.exists(&format!("{at}/{entry}"));
    let own = [("bridge", "bridge"), ("bonding", "bond"), ("tun_flags", "tun")];
    own.into_iter().find(|(entry, _)| of(entry)).map(|(_, kind)| kind.to_owned())
}
