//! Network interfaces that the host itself uses.

use std::collections::BTreeSet;

use model::Holder;

use crate::nodes::Interface;
use crate::root::Root;

/// The depth of the search: a VLAN on a bridge on a bond on an interface.
const DEPTH: usize = 4;

/// The default routes over these interfaces, or over interfaces built on them.
pub fn holders(root: &Root, interfaces: &[Interface]) -> Vec<Holder> {
    if interfaces.is_empty() {
        return Vec::new();
    }
    let routed = default_routes(root);
    if routed.is_empty() {
        return Vec::new();
    }
    let mut holders = Vec::new();
    for Interface { address, name: interface } in interfaces {
        let mut stack = BTreeSet::from([interface.clone()]);
        above(root, interface, DEPTH, &mut stack);
        for name in stack.intersection(&routed) {
            let user = if name == interface {
                "the host's default route".to_owned()
            } else {
                format!("the host's default route, over {name}")
            };
            holders.push(super::kernel(*address, user, interface.clone()));
        }
    }
    holders
}

/// The interfaces built on another: bridges, bonds, VLANs (`upper_*` links in sysfs).
fn above(root: &Root, interface: &str, depth: usize, stack: &mut BTreeSet<String>) {
    if depth == 0 {
        return;
    }
    for name in root.names(&format!("sys/class/net/{interface}")).unwrap_or_default() {
        let Some(upper) = name.strip_prefix("upper_") else { continue };
        if stack.insert(upper.to_owned()) {
            above(root, upper, depth - 1, stack);
        }
    }
}

/// The interfaces that carry a default route (net/ipv4/fib_trie.c, net/ipv6/route.c).
fn default_routes(root: &Root) -> BTreeSet<String> {
    const ANY: &str = "00000000000000000000000000000000";
    let fields =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let mut interfaces = BTreeSet::new();
    let v4 = root.text("proc/net/route").unwrap_or_default();
    for line in v4.lines().skip(1).map(fields) {
        if line.get(1).is_some_and(|to| to == "00000000")
            && line.get(7).is_some_and(|mask| mask == "00000000")
        {
            interfaces.extend(line.first().cloned());
        }
    }
    let v6 = root.text("proc/net/ipv6_route").unwrap_or_default();
    for line in v6.lines().map(fields) {
        if line.first().is_some_and(|to| to == ANY) && line.get(1).is_some_and(|bits| bits == "00")
        {
            // The kernel's own entry for unreachable destinations is on lo.
            interfaces.extend(line.last().filter(|name| *name != "lo").cloned());
        }
    }
    interfaces
}
