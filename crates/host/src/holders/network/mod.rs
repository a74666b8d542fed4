//! Network interfaces that the host itself uses: as ports of bridges and bonds, by addresses, routes and policy rules,
//! below VLANs and tunnels, and for sessions with file and storage servers.
//!
//! The running kernel is asked by rtnetlink. A recording has what it answered, in [`FILE`]. Other trees have sysfs and
//! procfs only, which show the main table of IPv4, and no address of IPv4.

mod links;
mod namespaces;
mod routes;
mod sessions;

use std::collections::BTreeSet;

use model::{Address, Holder, HolderKind};
use serde::{Deserialize, Serialize};

pub use links::{IFF_UP, Links};
use namespaces::Elsewhere;
pub use routes::{Prefix, Routes, address_v6, route_v4, route_v6};
use sessions::Session;
pub use sessions::{socket_address, socket_address_text};

use crate::function_files::DEVICES;
use crate::nodes::Interface;
use crate::root::Root;

/// The file of a recording with what rtnetlink answered.
pub const FILE: &str = "handover/network";

/// The most that is read of it.
const LIMIT: usize = 16 << 20;

/// At most this many routes or peers are named in one reason.
const NAMED: usize = 2;

/// The host's network.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Network {
    /// Its interfaces.
    #[serde(flatten)]
    pub links: Links,
    /// Its addresses, routes and rules.
    #[serde(flatten)]
    pub routes: Routes,
    /// Interfaces of other network namespaces.
    #[serde(default)]
    pub elsewhere: Vec<Elsewhere>,
}

impl Network {
    /// Asks the running kernel, or reads what a recording or another tree has.
    pub fn read(root: &Root) -> Self {
        if root.is_host()
            && let Ok(network) = Self::ask(root)
        {
            if root.is_traced()
                && let Ok(text) = serde_json::to_string(&network)
            {
                root.note_text(FILE, &text);
            }
            return network;
        }
        let recorded = root.bytes(FILE, LIMIT).ok();
        recorded.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(|| Self {
            links: Links::read(root),
            routes: Routes::read(root),
            elsewhere: Vec::new(),
        })
    }

    /// Asks the running kernel.
    fn ask(root: &Root) -> Result<Self, crate::rtnetlink::Refused> {
        let (links, names) = Links::ask()?;
        let elsewhere = namespaces::ask(root, &names);
        Ok(Self { routes: Routes::ask(&names)?, links, elsewhere })
    }
}

/// The uses of these interfaces by the host's network; of each interface the one that matters most first. Also the uses
/// of all functions whose interfaces other network namespaces have; `hidden` are those with an interface that is not here.
pub fn holders(root: &Root, interfaces: &[Interface], hidden: &[Address]) -> Vec<Holder> {
    let network = Network::read(root);
    let sessions = sessions::read(root, &network.routes);
    let mut holders = Vec::new();
    for Interface { address, name } in interfaces {
        let uses = uses(&network, &sessions, name);
        holders.extend(uses.into_iter().map(|using| holder(*address, using, name)));
    }
    let elsewhere = network.elsewhere.iter().filter(|other| !other.name.is_empty());
    let mut known = BTreeSet::new();
    for (other, address) in elsewhere.filter_map(|other| Some((other, other.function?))) {
        known.insert(address);
        if !other.down {
            let using = Using { words: other.words(), interface: None };
            holders.push(holder(address, using, &other.name));
        }
    }
    for address in hidden.iter().filter(|address| !known.contains(address)) {
        let words = "a network namespace that cannot be read".to_owned();
        holders.push(holder(*address, Using { words, interface: None }, "an interface there"));
    }
    holders
}

/// Those of these functions that have network interfaces, all of them in other network namespaces. The directory `net` is
/// made with a function's first interface and removed with its last one (`get_device_parent`, `cleanup_glue_dir` in
/// drivers/base/core.c), whichever namespaces they are in; it lists those of the namespace of this sysfs.
pub fn hidden(root: &Root, functions: &[Address]) -> Vec<Address> {
    let is_hidden = |address: &&Address| {
        let interfaces = root.names(&format!("{DEVICES}/{address}/net"));
        interfaces.is_ok_and(|names| names.is_empty())
    };
    functions.iter().filter(is_hidden).copied().collect()
}

/// One use of an interface.
struct Using {
    words: String,
    /// The interface to look at: it, or one that is built on it.
    interface: Option<String>,
}

fn holder(address: Address, using: Using, name: &str) -> Holder {
    // Mount points and names of targets can contain anything.
    let user = using.words.replace(char::is_control, "\u{fffd}");
    let plain = super::unowned(address, HolderKind::Network, user, name.to_owned());
    Holder { interface: using.interface, ..plain }
}

/// What an interface is used for.
fn uses(network: &Network, sessions: &[Session], name: &str) -> Vec<Using> {
    let Network { links, routes, .. } = network;
    // The kernel removes the routes of an interface that is set down; a bond goes on without it.
    let up = links.is_up(name);
    let stack = if up { links.stack(name) } else { vec![name] };
    let mut uses = Vec::new();
    for session in sessions {
        for upper in stack.iter().filter(|upper| session.interfaces.contains(**upper)) {
            uses.push(over(&session.user, upper, name));
        }
    }
    for upper in &stack {
        uses.extend(routes.defaults(upper).into_iter().map(|what| over(&what, upper, name)));
    }
    if up {
        // The bridges of an Open vSwitch have no link to its ports: the stack has them, the master's own has not.
        let port = links.port(name).map(|(master, words)| {
            let others = stack.iter().skip(1).copied();
            let upper = links.stack(&master).into_iter().chain(others);
            Using { words, interface: Some(addressed(network, upper, &master)) }
        });
        uses.extend(port);
        uses.extend(links.built_on(name).into_iter().map(|(upper, words)| {
            let interface = Some(addressed(network, links.stack(&upper).into_iter(), &upper));
            Using { words, interface }
        }));
        for upper in &stack {
            let others = network.elsewhere.iter().filter(|one| one.on.as_deref() == Some(*upper));
            uses.extend(others.map(|one| over(&one.words(), upper, name)));
        }
        uses.extend(tunnels(network, &stack, name));
    }
    for upper in &stack {
        let others = routes.others(upper);
        // An address comes with a route to its network.
        let addressed = others.is_none() && routes.defaults(upper).is_empty();
        let addresses = if addressed && up { routes.addresses(upper) } else { None };
        let rules = routes.rules(upper);
        let all = others.into_iter().chain(addresses).chain(rules);
        uses.extend(all.map(|what| over(&what, upper, name)));
    }
    let mut known = BTreeSet::new();
    uses.retain(|using| known.insert(using.words.clone()));
    uses
}

/// The first of these interfaces with an address or a route; the last argument, if none has.
fn addressed<'a>(
    network: &Network,
    mut interfaces: impl Iterator<Item = &'a str>,
    otherwise: &str,
) -> String {
    let routes = &network.routes;
    let used = |upper: &str| {
        !routes.defaults(upper).is_empty()
            || routes.others(upper).is_some()
            || routes.addresses(upper).is_some()
    };
    interfaces.find(|upper| used(upper)).unwrap_or(otherwise).to_owned()
}

/// The tunnels to a peer that is reached over one of these interfaces.
fn tunnels(network: &Network, stack: &[&str], name: &str) -> Vec<Using> {
    let Network { links, routes, .. } = network;
    let mut found = Vec::new();
    for (tunnel, remote) in links.tunnels() {
        let reached = routes.reached_over(remote);
        for upper in stack.iter().filter(|upper| reached.contains(**upper)) {
            // A tunnel is not reached through itself.
            if **upper != *tunnel {
                found.push(over(&format!("tunnel {tunnel} to {remote}"), upper, name));
            }
        }
    }
    found
}

/// A use of an interface, or of one that is built on it.
fn over(what: &str, upper: &str, name: &str) -> Using {
    let words = if upper == name { what.to_owned() } else { format!("{what}, over {upper}") };
    Using { words, interface: Some(upper.to_owned()) }
}

/// The first of these, and how many more there are: `a`, `a and b`, `a, b and 3 more`.
fn some(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        more => {
            let named: Vec<&str> = more.iter().take(NAMED).map(String::as_str).collect();
            format!("{} and {} more", named.join(", "), more.len().saturating_sub(NAMED))
        }
    }
}
