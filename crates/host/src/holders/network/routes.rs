//! Addresses, routes and policy rules.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::some;
use crate::root::Root;
use crate::rtnetlink::{Refused, dump};

/// `RT_TABLE_MAIN` and `RT_TABLE_LOCAL` in include/uapi/linux/rtnetlink.h.
const MAIN: u32 = 254;
const LOCAL: u32 = 255;

/// The most routes that are kept of a router with a full table.
const MOST: usize = 1 << 16;

/// The most that is read of a table.
const LIMIT: usize = 16 << 20;

/// `RTF_GATEWAY`, and `RTF_ANYCAST` and `RTF_LOCAL` of IPv6 (include/uapi/linux/route.h, ipv6_route.h).
const RTF_GATEWAY: u32 = 0x2;
const RTF_REJECT: u32 = 0x200;
const RTF_ANYCAST: u32 = 0x0010_0000;
const RTF_LOCAL: u32 = 0x8000_0000;

/// An address with the length of its network, or a route's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "ReadPrefix")]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// The length: at most that of the address.
    pub length: u8,
}

/// A prefix as read, of any length.
#[derive(Deserialize)]
struct ReadPrefix {
    address: IpAddr,
    length: u8,
}

impl TryFrom<ReadPrefix> for Prefix {
    type Error = String;

    fn try_from(read: ReadPrefix) -> Result<Self, String> {
        let ReadPrefix { address, length } = read;
        Self::new(address, length).ok_or_else(|| format!("no address has {length} bits"))
    }
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The interface.
    pub interface: String,
    /// The address.
    pub address: Prefix,
}

/// A route over interfaces, or to the host itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its destination.
    pub to: Prefix,
    /// Its table.
    pub table: u32,
    /// The interfaces of its next hops.
    pub interfaces: Vec<String>,
    /// Whether it has a gateway.
    #[serde(default)]
    pub gateway: bool,
    /// Whether its destination is the host itself.
    #[serde(default)]
    pub local: bool,
    /// Its metric: the smallest is used.
    #[serde(default)]
    pub metric: u32,
}

/// A policy rule that names a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Whether it is for IPv6.
    pub v6: bool,
    /// The table.
    pub table: u32,
    /// Interfaces that it is for.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// The destination that it is for.
    #[serde(default)]
    pub to: Option<Prefix>,
    /// Whether it has other conditions.
    #[serde(default)]
    pub conditional: bool,
}

/// The addresses, routes and rules of a host.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Routes {
    /// The addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// The routes of all tables that are known.
    pub routes: Vec<Route>,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
}

impl Prefix {
    /// A prefix; `None` if it is longer than the address.
    pub const fn new(address: IpAddr, length: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if length <= most { Some(Self { address, length }) } else { None }
    }

    /// The network of an address.
    pub fn network(&self) -> Self {
        let length = u32::from(self.length);
        let address = match self.address {
            IpAddr::V4(own) => {
                let mask = u32::MAX.checked_shl(32u32.saturating_sub(length)).unwrap_or(0);
                Ipv4Addr::from_bits(own.to_bits() & mask).into()
            }
            IpAddr::V6(own) => {
                let mask = u128::MAX.checked_shl(128u32.saturating_sub(length)).unwrap_or(0);
                Ipv6Addr::from_bits(own.to_bits() & mask).into()
            }
        };
        Self { address, length: self.length }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let other = Self { address, length: self.length };
        self.address.is_ipv4() == address.is_ipv4() && self.network() == other.network()
    }

    /// Whether it is for one link only, loopback or multicast: each interface has such addresses and routes.
    pub fn is_of_link(&self) -> bool {
        match self.address {
            IpAddr::V4(own) => {
                self.length >= 4
                    && (own.is_link_local() && self.length >= 16
                        || own.is_loopback()
                        || own.is_multicast()
                        || own.is_broadcast())
            }
            IpAddr::V6(own) => {
                self.length >= 8
                    && (own.is_unicast_link_local() && self.length >= 10
                        || own.is_loopback()
                        || own.is_multicast())
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Route {
    /// Whether it is the host's use of an interface: not what each interface has by itself.
    fn counts(&self) -> bool {
        !self.local && (self.gateway || !self.to.is_of_link())
    }

    fn words(&self) -> String {
        match self.table {
            MAIN => self.to.to_string(),
            table => format!("{} of table {table}", self.to),
        }
    }
}

impl Routes {
    /// Asks the running kernel. `names` has the interfaces by index.
    pub fn ask(names: &HashMap<u32, String>) -> Result<Self, Refused> {
        let named = |index: u32| names.get(&index).cloned();
        let mut all = Self::default();
        for found in dump::addresses()? {
            let Some(address) = Prefix::new(found.address, found.length) else { continue };
            if !address.is_of_link() {
                let interface = named(found.index);
                all.addresses
                    .extend(interface.map(|interface| InterfaceAddress { interface, address }));
            }
        }
        for found in dump::routes(MOST)? {
            // `RTN_UNICAST` and `RTN_LOCAL`; broadcast and anycast come with addresses, and blackholes have no interface.
            let local = match found.kind {
                1 => false,
                2 => true,
                _ => continue,
            };
            let Some(to) = Prefix::new(found.to, found.length) else { continue };
            let route = Route {
                to,
                table: found.table,
                interfaces: found.indices.into_iter().filter_map(named).collect(),
                gateway: found.gateway,
                local,
                metric: found.metric,
            };
            if route.counts() || (local && !route.to.is_of_link()) {
                all.routes.push(route);
            }
        }
        // A kernel without policy rules has the three usual ones.
        for rule in dump::rules().unwrap_or_default() {
            let to = rule.to.and_then(|(address, length)| Prefix::new(address, length));
            let dump::Rule { v6, table, interfaces, conditional, .. } = rule;
            all.rules.push(Rule { v6, table, interfaces, to, conditional });
        }
        Ok(all)
    }

    /// Reads procfs.
    pub fn read(root: &Root) -> Self {
        let text = |path: &str| {
            let bytes = root.bytes(path, LIMIT).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let v4 = text("proc/net/route");
        let v6 = text("proc/net/ipv6_route");
        let mut routes: Vec<Route> = v4.lines().skip(1).filter_map(route_v4).collect();
        routes.extend(v6.lines().filter_map(route_v6));
        routes.retain(|route| route.counts() || (route.local && !route.to.is_of_link()));
        let addresses = text("proc/net/if_inet6");
        let mut addresses: Vec<_> = addresses.lines().filter_map(address_v6).collect();
        addresses.retain(|one| !one.address.is_of_link());
        Self { addresses, routes, rules: Vec::new() }
    }

    fn over<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Route> {
        let counting = self.routes.iter().filter(|route| route.counts());
        counting.filter(move |route| route.interfaces.iter().any(|one| one == name))
    }

    /// The default routes over an interface, in words.
    pub fn defaults(&self, name: &str) -> Vec<String> {
        let defaults = self.over(name).filter(|route| route.to.length == 0);
        let mut words: Vec<String> = defaults
            .map(|route| match route.table {
                MAIN => "the host's default route".into(),
                table => format!("the default route of table {table}"),
            })
            .collect();
        words.dedup();
        words
    }

    /// The interfaces with a default route.
    pub fn ways_out(&self) -> BTreeSet<&str> {
        let defaults = self.routes.iter().filter(|route| route.counts() && route.to.length == 0);
        defaults.flat_map(|route| &route.interfaces).map(String::as_str).collect()
    }

    /// The other routes over an interface, in words.
    pub fn others(&self, name: &str) -> Option<String> {
        let mut others: Vec<&Route> =
            self.over(name).filter(|route| route.to.length != 0).collect();
        // Halves of a default route first, then as the tables are ordered.
        others.sort_by_key(|route| (route.to.length > 1, route.table != MAIN));
        let mut words: Vec<String> = others.into_iter().map(Route::words).collect();
        words.dedup();
        let many = if words.len() == 1 { "route" } else { "routes" };
        (!words.is_empty()).then(|| format!("{many} {}", some(&words)))
    }

    /// The addresses of an interface, in words.
    pub fn addresses(&self, name: &str) -> Option<String> {
        let own = self.addresses.iter().filter(|one| one.interface == name);
        let words: Vec<String> = own.map(|one| one.address.to_string()).collect();
        let many = if words.len() == 1 { "address" } else { "addresses" };
        (!words.is_empty()).then(|| format!("{many} {}", some(&words)))
    }

    /// The policy rules that name an interface, in words.
    pub fn rules(&self, name: &str) -> Option<String> {
        let naming = |rule: &&Rule| rule.interfaces.iter().any(|one| one == name);
        let tables: BTreeSet<u32> =
            self.rules.iter().filter(naming).map(|rule| rule.table).collect();
        let words: Vec<String> = tables.into_iter().map(|table| format!("table {table}")).collect();
        let many = if words.len() == 1 { "policy rule" } else { "policy rules" };
        (!words.is_empty()).then(|| format!("{many} for {}", some(&words)))
    }

    /// The interfaces over which a peer is or can be reached: as the rules say whose conditions are not known, and as
    /// the first rule says that applies to all packets. None if the peer is the host itself.
    pub fn reached_over(&self, peer: IpAddr) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        if self.addresses.iter().any(|own| own.address.address == peer) {
            return found;
        }
        let usual = [LOCAL, MAIN, 253].map(|table| Rule {
            v6: peer.is_ipv6(),
            table,
            interfaces: Vec::new(),
            to: None,
            conditional: false,
        });
        let known = self.rules.iter().any(|rule| rule.v6 == peer.is_ipv6());
        let rules = if known { self.rules.as_slice() } else { usual.as_slice() };
        let applies =
            |rule: &&Rule| rule.v6 == peer.is_ipv6() && rule.to.is_none_or(|to| to.contains(peer));
        for rule in rules.iter().filter(applies) {
            let best = self.best(rule.table, peer);
            found.extend(
                best.iter()
                    .filter(|route| !route.local)
                    .flat_map(|route| route.interfaces.iter().map(String::as_str)),
            );
            if !best.is_empty() && !rule.conditional {
                break;
            }
        }
        found
    }

    /// The routes of a table to a peer: the longest prefix, and of these the smallest metric.
    fn best(&self, table: u32, peer: IpAddr) -> Vec<&Route> {
        let rank = |route: &Route| (route.to.length, Reverse(route.metric));
        let fits =
            || self.routes.iter().filter(|route| route.table == table && route.to.contains(peer));
        let best = fits().map(rank).max();
        fits().filter(|route| Some(rank(route)) == best).collect()
    }
}

/// A line of /proc/net/route (`fib_route_seq_show` in net/ipv4/fib_trie.c): numbers as the processor stores them.
pub fn route_v4(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
    let flags = number(3)?;
    if flags & RTF_REJECT != 0 {
        return None;
    }
    let length = u8::try_from(u32::from_be(number(7)?).leading_ones()).ok()?;
    Some(Route {
        to: Prefix { address: Ipv4Addr::from(u32::from_be(number(1)?)).into(), length },
        table: MAIN,
        interfaces: vec![(*fields.first()?).to_owned()],
        gateway: flags & RTF_GATEWAY != 0,
        local: false,
        metric: fields.get(6)?.parse().ok()?,
    })
}

/// A line of /proc/net/ipv6_route (`ipv6_route_native_seq_show` in net/ipv6/ip6_fib.c), which has all tables.
pub fn route_v6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
    let flags = number(8)?;
    // The kernel's own entry for unreachable destinations is on lo.
    let interface = fields.get(9).filter(|name| **name != "lo" || flags & RTF_LOCAL != 0)?;
    if flags & (RTF_REJECT | RTF_ANYCAST) != 0 {
        return None;
    }
    let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
    Some(Route {
        to: Prefix::new(address.into(), u8::try_from(number(1)?).ok()?)?,
        table: MAIN,
        interfaces: vec![(*interface).to_owned()],
        gateway: flags & RTF_GATEWAY != 0,
        local: flags & RTF_LOCAL != 0,
        metric: number(5)?,
    })
}

/// A line of /proc/net/if_inet6 (`if6_seq_show` in net/ipv6/addrconf.c).
pub fn address_v6(line: &str) -> Option<InterfaceAddress> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
    let length = u8::from_str_radix(fields.get(2)?, 16).ok()?;
    let address = Prefix::new(address.into(), length)?;
    Some(InterfaceAddress { interface: (*fields.get(5)?).to_owned(), address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
    }

    fn route(to: &str, table: u32, interface: &str, metric: u32) -> Route {
        let interfaces = vec![interface.to_owned()];
        Route { to: prefix(to), table, interfaces, gateway: false, local: false, metric }
    }

    fn rule(table: u32, conditional: bool) -> Rule {
        Rule { v6: false, table, interfaces: Vec::new(), to: None, conditional }
    }

    #[test]
    fn the_longest_prefix_and_the_smallest_metric_are_used() {
        let routes = Routes {
            routes: vec![
                route("0.0.0.0/0", MAIN, "wlan0", 600),
                route("0.0.0.0/0", MAIN, "eth0", 100),
                route("10.0.0.0/8", MAIN, "eth1", 0),
                route("10.1.0.0/16", 100, "eth2", 0),
            ],
            ..Routes::default()
        };
        let over =
            |peer: &str| routes.reached_over(peer.parse().unwrap()).into_iter().collect::<Vec<_>>();
        assert_eq!(over("192.0.2.1"), ["eth0"]);
        assert_eq!(over("10.1.2.3"), ["eth1"], "no rule names table 100");
        assert_eq!(over("2001:db8::1"), [""; 0]);
    }

    #[test]
    fn a_rule_with_unknown_conditions_may_apply() {
        let mut routes = Routes {
            routes: vec![route("0.0.0.0/0", MAIN, "eth0", 0), route("0.0.0.0/0", 100, "eth1", 0)],
            rules: vec![rule(LOCAL, false), rule(100, true), rule(MAIN, false)],
            ..Routes::default()
        };
        let both = BTreeSet::from(["eth0", "eth1"]);
        assert_eq!(routes.reached_over("192.0.2.1".parse().unwrap()), both);
        routes.rules[1].conditional = false;
        assert_eq!(routes.reached_over("192.0.2.1".parse().unwrap()), BTreeSet::from(["eth1"]));
    }

    #[test]
    fn the_host_itself_is_reached_over_nothing() {
        let mut own = route("192.0.2.1/32", LOCAL, "eth0", 0);
        own.local = true;
        let routes = Routes {
            routes: vec![own, route("192.0.2.0/24", MAIN, "eth0", 0)],
            ..Routes::default()
        };
        assert!(routes.reached_over("192.0.2.1".parse().unwrap()).is_empty());
        assert!(!routes.reached_over("192.0.2.2".parse().unwrap()).is_empty());
    }

    #[test]
    fn what_each_interface_has_does_not_count() {
        for own in ["fe80::/64", "ff00::/8", "169.254.0.0/16", "224.0.0.0/4", "fe80::1/128"] {
            assert!(prefix(own).is_of_link(), "{own}");
        }
        for other in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "fd00::/8"] {
            assert!(!prefix(other).is_of_link(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "([0-9a-fA-F]{0,40} |eth0 |lo |.){0,14}") {
            let _ = (route_v4(&line), route_v6(&line), address_v6(&line));
        }

        #[test]
        fn a_prefix_contains_its_own_address(address: std::net::IpAddr, length: u8) {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let own = Prefix::new(address, length);
            prop_assert_eq!(own.is_some(), length <= most);
            prop_assert!(own.is_none_or(|own| own.contains(address)));
        }
    }
}
