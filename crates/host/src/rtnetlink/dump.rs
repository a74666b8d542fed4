//! Dumps of interfaces, addresses, routes and policy rules.
//!
//! Only the needed attributes are parsed: newer kernels have formats that a complete parser would refuse. What cannot
//! be parsed is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlasIterator};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{Refused, error, received, sent};

/// `NLMSG_DONE` (include/uapi/linux/netlink.h): the end of a dump.
const DONE: u16 = 3;

/// `NLM_F_DUMP_INTR`: what is dumped has changed meanwhile.
const INTERRUPTED: u16 = 0x10;

/// How often an interrupted dump is begun again. Then an inconsistent one is used: it is complete but for the changes.
const TRIES: u32 = 4;

/// `AF_INET` and `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 10;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `IFF_*`.
    pub flags: u32,
    /// The index of the bridge, bond, ... that it is a port of.
    pub master: Option<u32>,
    /// The index of the interface that it is built on, if that is in the same network namespace.
    pub on: Option<u32>,
    /// `bridge`, `vlan`, `vxlan`, ...; physical interfaces have none.
    pub kind: Option<String>,
    /// The other end of a tunnel.
    pub remote: Option<IpAddr>,
    /// The index of the interface that it is built on, or of the other end of a pair, in another network namespace.
    pub on_elsewhere: Option<u32>,
    /// The number that its own network namespace has for that other one.
    pub on_in: Option<i32>,
    /// The PCI function that it belongs to (since Linux 5.14).
    pub function: Option<String>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub length: u8,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its table.
    pub table: u32,
    /// Its destination.
    pub to: IpAddr,
    /// The length of the destination's prefix.
    pub length: u8,
    /// `RTN_*`.
    pub kind: u8,
    /// The interfaces of its next hops.
    pub indices: Vec<u32>,
    /// Whether it has a gateway.
    pub gateway: bool,
    /// Its metric: the smallest is used.
    pub metric: u32,
}

/// A policy rule that names a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is for IPv6.
    pub v6: bool,
    /// Its priority: the smallest is first.
    pub priority: u32,
    /// The table.
    pub table: u32,
    /// Interfaces that it is for.
    pub interfaces: Vec<String>,
    /// The destination that it is for.
    pub to: Option<(IpAddr, u8)>,
    /// Whether it has other conditions, such as a source address or a mark.
    pub conditional: bool,
}

/// All interfaces of this network namespace.
///
/// # Errors
/// The kernel's error.
pub fn links() -> Result<Vec<Link>, Refused> {
    let request = || {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        RouteNetlinkMessage::GetLink(message)
    };
    dumped(request, link)
}

/// The addresses of all interfaces.
///
/// # Errors
/// The kernel's error.
pub fn addresses() -> Result<Vec<Address>, Refused> {
    dumped(|| RouteNetlinkMessage::GetAddress(AddressMessage::default()), address)
}

/// The routes of all tables. Of more than `most`, those over an interface that has no route yet.
///
/// # Errors
/// The kernel's error.
pub fn routes(most: usize) -> Result<Vec<Route>, Refused> {
    let mut all: Vec<Route> = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = || {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            RouteNetlinkMessage::GetRoute(message)
        };
        let mut routed = std::collections::BTreeSet::new();
        let mut kept = 0usize;
        all.extend(dumped(request, |payload| {
            let route = route(payload)?;
            let new = route.indices.iter().filter(|index| routed.insert(**index)).count();
            kept += 1;
            (kept <= most || new > 0).then_some(route)
        })?);
    }
    Ok(all)
}

/// The policy rules, by priority.
///
/// # Errors
/// The kernel's error.
pub fn rules() -> Result<Vec<Rule>, Refused> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = || {
            let mut message = RuleMessage::default();
            message.header.family = family;
            RouteNetlinkMessage::GetRule(message)
        };
        all.extend(dumped(request, rule)?);
    }
    all.sort_by_key(|rule| rule.priority);
    Ok(all)
}

/// The number that this thread's network namespace has for the one behind a file descriptor; `None` if it has none.
///
/// # Errors
/// The kernel's error.
pub fn namespace_id(namespace: u32) -> Result<Option<i32>, Refused> {
    /// `RTM_NEWNSID`, with a `struct rtgenmsg` and `NETNSA_NSID` (include/uapi/linux/net_namespace.h).
    const NEWNSID: u16 = 88;
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(namespace));
    let socket = sent(RouteNetlinkMessage::GetNsId(message), NLM_F_REQUEST)?;
    let bytes = received(&socket)?;
    let answer = NetlinkBuffer::new_checked(bytes.as_slice()).map_err(|_| Errno::BADMSG)?;
    if answer.message_type() != NEWNSID {
        return Err(error(answer.payload(), answer.flags()).unwrap_or(Errno::BADMSG.into()));
    }
    let mut found = attributes(answer.payload().get(4..).unwrap_or_default());
    let id = found.find(|(kind, _)| *kind == 1).and_then(|(_, value)| word(value));
    // -1 is none.
    Ok(id.map(u32::cast_signed).filter(|id| *id >= 0))
}

/// Dumps, and parses each message.
fn dumped<T>(
    request: impl Fn() -> RouteNetlinkMessage,
    mut parse: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Refused> {
    let mut turn = 1;
    loop {
        let socket = sent(request(), NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut dump = Dump::default();
        let mut found = Vec::new();
        while !dump.done {
            let datagram = received(&socket)?;
            dump.read(&datagram, |payload| found.extend(parse(payload)))?;
        }
        if !dump.interrupted || turn == TRIES {
            return Ok(found);
        }
        turn += 1;
    }
}

/// The state of a dump.
#[derive(Debug, Default)]
struct Dump {
    done: bool,
    interrupted: bool,
}

impl Dump {
    /// Reads the messages in a datagram.
    fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Refused> {
        if bytes.is_empty() {
            return Err(Errno::BADMSG.into());
        }
        while !bytes.is_empty() {
            let message = NetlinkBuffer::new_checked(bytes).map_err(|_| Errno::BADMSG)?;
            self.interrupted |= message.flags() & INTERRUPTED != 0;
            match message.message_type() {
                DONE => self.done = true,
                NLMSG_ERROR => match error(message.payload(), message.flags()) {
                    Some(refused) => return Err(refused),
                    None => self.done = true,
                },
                _ => each(message.payload()),
            }
            let length = usize::try_from(message.length()).map_err(|_| Errno::BADMSG)?;
            let next = length.max(1).checked_next_multiple_of(4).ok_or(Errno::BADMSG)?;
            bytes = bytes.get(next..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Parses a message about an interface; `None` if it has no name.
pub fn link(payload: &[u8]) -> Option<Link> {
    // `struct ifinfomsg`: the index is at 4, the flags are at 8.
    let mut link = Link {
        index: word(payload.get(4..)?)?,
        flags: word(payload.get(8..)?)?,
        ..Link::default()
    };
    let mut bus = String::new();
    for (kind, value) in attributes(payload.get(16..)?) {
        match kind {
            3 => link.name = text(value),
            5 => link.on = word(value).filter(|index| *index != 0 && *index != link.index),
            10 => link.master = word(value).filter(|index| *index != 0),
            18 => information(value, &mut link),
            // `IFLA_LINK_NETNSID`: it is built on an interface of another network namespace.
            37 => link.on_in = word(value).map(u32::cast_signed),
            // `IFLA_PARENT_DEV_NAME` and `IFLA_PARENT_DEV_BUS_NAME`.
            56 => link.function = Some(text(value)),
            57 => bus = text(value),
            _ => {}
        }
    }
    link.function = link.function.filter(|_| bus == "pci");
    if link.on_in.is_some() {
        link.on_elsewhere = link.on;
        link.on = None;
    }
    // The other end of a pair is no lower interface.
    if matches!(link.kind.as_deref(), Some("veth" | "netkit")) {
        link.on = None;
    }
    (!link.name.is_empty()).then_some(link)
}

/// `IFLA_LINKINFO`: `IFLA_INFO_KIND` and `IFLA_INFO_DATA`.
fn information(value: &[u8], link: &mut Link) {
    let mut data: &[u8] = &[];
    for (kind, value) in attributes(value) {
        match kind {
            1 => link.kind = Some(text(value)),
            2 => data = value,
            _ => {}
        }
    }
    // The attributes with the other end, and the interface that a VXLAN is bound to (include/uapi/linux/if_link.h,
    // if_tunnel.h).
    let (remotes, on): (&[u16], Option<u16>) = match link.kind.as_deref() {
        Some("vxlan") => (&[2, 16], Some(3)),
        Some("geneve") => (&[2, 7], None),
        Some("gre" | "gretap" | "ip6gre" | "ip6gretap" | "erspan" | "ip6erspan") => (&[7], Some(1)),
        Some("ipip" | "sit" | "ip6tnl") => (&[3], Some(1)),
        Some("vti" | "vti6") => (&[5], Some(1)),
        _ => (&[], None),
    };
    for (kind, value) in attributes(data) {
        if remotes.contains(&kind) {
            link.remote = ip(value).filter(|address| !address.is_unspecified());
        }
        if on == Some(kind) {
            link.on = link.on.or_else(|| word(value).filter(|index| *index != 0));
        }
    }
}

/// Parses a message about an address; `None` if it has none.
pub fn address(payload: &[u8]) -> Option<Address> {
    // `struct ifaddrmsg`.
    let length = *payload.get(1)?;
    let index = word(payload.get(4..)?)?;
    let mut found = None;
    for (kind, value) in attributes(payload.get(8..)?) {
        match kind {
            // `IFA_ADDRESS`: for a point-to-point interface it is the peer's; `IFA_LOCAL` is its own.
            1 => found = found.or_else(|| ip(value)),
            2 => found = ip(value).or(found),
            _ => {}
        }
    }
    Some(Address { index, address: found?, length })
}

/// Parses a message about a route; `None` for other families than IP.
pub fn route(payload: &[u8]) -> Option<Route> {
    // `struct rtmsg`.
    let family = *payload.first()?;
    let mut route = Route {
        table: u32::from(*payload.get(4)?),
        to: everything(family)?,
        length: *payload.get(1)?,
        kind: *payload.get(7)?,
        indices: Vec::new(),
        gateway: false,
        metric: 0,
    };
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            1 => route.to = ip(value)?,
            4 => route.indices.extend(word(value)),
            5 | 18 => route.gateway = true,
            6 => route.metric = word(value)?,
            9 => hops(value, &mut route),
            15 => route.table = word(value)?,
            _ => {}
        }
    }
    Some(route)
}

/// `RTA_MULTIPATH`: a list of `struct rtnexthop`, each with attributes.
fn hops(mut value: &[u8], route: &mut Route) {
    while let Some(length) = value.get(..2).and_then(|bytes| bytes.try_into().ok()) {
        let length = usize::from(u16::from_ne_bytes(length));
        let Some(hop) = value.get(..length).filter(|hop| hop.len() >= 8) else { return };
        route.indices.extend(hop.get(4..).and_then(word));
        let mut attributes = attributes(hop.get(8..).unwrap_or_default());
        route.gateway |= attributes.any(|(kind, _)| matches!(kind, 5 | 18));
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// Parses a message about a rule; `None` if it names no table, and for other families than IP.
pub fn rule(payload: &[u8]) -> Option<Rule> {
    // `struct fib_rule_hdr`; `FR_ACT_TO_TBL` is 1, `FIB_RULE_INVERT` is 2.
    let family = *payload.first()?;
    everything(family)?;
    if *payload.get(7)? != 1 {
        return None;
    }
    let invert = word(payload.get(8..)?)? & 2 != 0;
    let mut rule = Rule {
        v6: family == INET6,
        table: u32::from(*payload.get(4)?),
        conditional: invert || *payload.get(2)? != 0 || *payload.get(3)? != 0,
        ..Rule::default()
    };
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            1 => rule.to = ip(value).zip(payload.get(1).copied()),
            3 | 17 => rule.interfaces.push(text(value)),
            6 => rule.priority = word(value)?,
            // A mark, a user, ports, ...; the suppressors have -1 for none.
            10 | 12 | 20 | 22.. => rule.conditional = true,
            13 | 14 => rule.conditional |= word(value) != Some(u32::MAX),
            15 => rule.table = word(value)?,
            // `FRA_L3MDEV`: the table of a VRF, for its own interfaces only.
            19 => rule.conditional |= value.first() != Some(&0),
            _ => {}
        }
    }
    rule.conditional |= !rule.interfaces.is_empty();
    // Inverted, the destination is what it is not for.
    if invert {
        rule.to = None;
    }
    Some(rule)
}

/// The attributes up to the first one that cannot be parsed.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let parsed = NlasIterator::new(bytes).map_while(Result::ok);
    parsed.filter_map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(4..length)?))
    })
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// The destination of a default route; `None` for other families.
const fn everything(family: u8) -> Option<IpAddr> {
    match family {
        INET => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        INET6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::attribute as nla;
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn an_interface_has_what_it_is_built_on() {
        let header = [&[0, 0, 1, 0][..], &words(&[7, 0x1043, 0])].concat();
        let data = [nla(1, &words(&[42])), nla(3, &words(&[2])), nla(2, &[203, 0, 113, 9])];
        let info = [nla(1, b"vxlan\0"), nla(2 | 0x8000, &data.concat())].concat();
        let bytes = [header, nla(3, b"vxlan42\0"), nla(10, &words(&[5])), nla(18, &info)].concat();
        let found = link(&bytes).unwrap();
        assert_eq!(
            (found.index, found.flags, found.on, found.master),
            (7, 0x1043, Some(2), Some(5))
        );
        assert_eq!((found.name.as_str(), found.kind.as_deref()), ("vxlan42", Some("vxlan")));
        assert_eq!(found.remote, Some("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn the_other_end_of_a_pair_is_not_below_it() {
        let header = [&[0, 0, 1, 0][..], &words(&[7, 1, 0])].concat();
        let info = nla(18, &nla(1, b"veth\0"));
        let bytes = [header, nla(3, b"veth1\0"), nla(5, &words(&[2])), info].concat();
        assert_eq!(link(&bytes).unwrap().on, None);
    }

    #[test]
    fn a_route_has_all_its_hops() {
        let header = [&[INET, 24, 0, 0, 252, 4, 0, 1][..], &words(&[0])].concat();
        let hop = |index: u32, rest: &[u8]| {
            let length = u16::try_from(8 + rest.len()).unwrap();
            [&length.to_ne_bytes()[..], &[0, 0], &words(&[index]), rest].concat()
        };
        let both = [hop(2, &nla(5, &[10, 0, 0, 1])), hop(3, &[])].concat();
        let bytes = [
            header,
            nla(15, &words(&[1000])),
            nla(1, &[10, 1, 0, 0]),
            nla(6, &words(&[100])),
            nla(9, &both),
        ];
        let found = route(&bytes.concat()).unwrap();
        assert_eq!((found.table, found.length, found.metric), (1000, 24, 100));
        assert_eq!((found.indices.as_slice(), found.gateway), (&[2, 3][..], true));
    }

    #[test]
    fn a_rule_tells_its_conditions() {
        let header = |source: u8, flags: u32| {
            [&[INET, 0, source, 0, 254, 0, 0, 1][..], &words(&[flags])].concat()
        };
        let plain = [header(0, 0), nla(6, &words(&[32766])), nla(14, &words(&[u32::MAX]))].concat();
        let found = rule(&plain).unwrap();
        assert_eq!((found.priority, found.table, found.conditional), (32766, 254, false));
        assert!(rule(&header(24, 0)).unwrap().conditional);
        assert!(rule(&header(0, 2)).unwrap().conditional);
        let on = [header(0, 0), nla(3, b"eth1\0"), nla(15, &words(&[100]))].concat();
        let found = rule(&on).unwrap();
        assert_eq!((found.table, found.interfaces), (100, vec!["eth1".to_owned()]));
    }

    #[test]
    fn the_running_kernel_answers() {
        match links() {
            Ok(links) => {
                assert!(links.iter().any(|link| link.name == "lo" && link.index == 1), "{links:?}");
                addresses().unwrap();
                routes(1 << 16).unwrap();
                // A kernel can be without policy rules (`CONFIG_IP_MULTIPLE_TABLES`).
                let _ = rules();
            }
            Err(refused) => {
                eprintln!("SKIPPED: no netlink in this sandbox: {refused:?}");
                assert_ne!(refused.errno, Errno::BADMSG);
            }
        }
    }

    proptest! {
        #[test]
        fn no_message_panics(payload in proptest::collection::vec(any::<u8>(), 0..200), kinds in proptest::collection::vec(0u16..40, 0..12)) {
            let _ = (link(&payload), address(&payload), route(&payload), rule(&payload));
            let _ = Dump::default().read(&payload, |_| {});
            let mut message = vec![INET, 24, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0];
            for kind in kinds {
                message.extend(nla(kind, &payload));
            }
            let _ = (link(&message), address(&message), route(&message), rule(&message));
        }
    }
}
