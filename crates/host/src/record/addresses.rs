//! Replaces IP addresses by those for documentation (RFC 5737, RFC 3849), or for benchmarks (RFC 2544) if there are too
//! many. The relation of networks and addresses stays: what was in a network is in its replacement, and of nested
//! networks the smaller one is still the smaller one. The lengths of networks can change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regex::{Captures, Regex};

use crate::archive::Entries;
use crate::holders::network::{self, FILE, Network, Prefix};

/// Addresses in a text.
const FORM: &str = r"(?x)
    \b [0-9]{1,3} (?: \. [0-9]{1,3} ){3} \b
  | [0-9a-fA-F]{0,4} : [0-9a-fA-F]{0,4} : [0-9a-fA-F:.]*
";

/// Whether addresses are in the text of a file: mounts, options of the kernel, and the peers of NVMe and iSCSI.
fn is_text(path: &str) -> bool {
    let peer = path.ends_with("/address") && (path.contains("/nvme") || path.contains("/iscsi"));
    peer || ["/mountinfo", "/persistent_address", "cmdline"].iter().any(|end| path.ends_with(end))
}

/// The replacements.
pub struct Addresses {
    form: Regex,
    made: BTreeMap<Prefix, Prefix>,
}

impl Addresses {
    /// Replacements for the addresses in a recording.
    ///
    /// # Errors
    /// Only if the expression above is invalid.
    pub fn of(entries: &Entries) -> Result<Self, regex::Error> {
        let mut found = Self { form: Regex::new(FORM)?, made: BTreeMap::new() };
        let mut all = BTreeSet::new();
        for (path, entry) in &entries.files {
            if let Some(content) = entry.content() {
                found.each(path, content, &mut |prefix| {
                    all.extend(replaceable(prefix.address).then_some(prefix));
                    prefix
                });
            }
        }
        let (v4, v6): (Vec<Prefix>, Vec<Prefix>) =
            all.into_iter().partition(|prefix| prefix.address.is_ipv4());
        for items in [v4, v6] {
            found.made.extend(replacements(&items));
        }
        Ok(found)
    }

    /// How many different addresses and networks are replaced.
    pub fn count(&self) -> usize {
        self.made.len()
    }

    /// The contents of a file with its addresses replaced.
    pub fn replaced(&self, path: &str, content: Vec<u8>) -> Vec<u8> {
        let replace = &mut |prefix: Prefix| self.made.get(&prefix).copied().unwrap_or(prefix);
        self.each(path, &content, replace).unwrap_or(content)
    }

    /// Changes each address in a file; `None` if the file has none.
    fn each(
        &self,
        path: &str,
        content: &[u8],
        change: &mut dyn FnMut(Prefix) -> Prefix,
    ) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(content);
        if path == FILE {
            return network(content, change);
        }
        let line: fn(&str, &mut dyn FnMut(Prefix) -> Prefix) -> Option<String> = match path {
            _ if path.ends_with("/net/route") => line_of_route,
            _ if path.ends_with("/net/ipv6_route") => line_of_route_v6,
            _ if path.ends_with("/net/if_inet6") => line_of_address_v6,
            _ if path.ends_with("/net/tcp") || path.ends_with("/net/tcp6") => line_of_connection,
            _ if is_text(path) => {
                return Some(self.text(&text, change).into_bytes());
            }
            _ => return None,
        };
        let changed = text.lines().flat_map(|old| {
            let new = line(old, change).unwrap_or_else(|| old.to_owned());
            [new, "\n".to_owned()]
        });
        Some(changed.collect::<String>().into_bytes())
    }

    fn text(&self, text: &str, change: &mut dyn FnMut(Prefix) -> Prefix) -> String {
        let new = self.form.replace_all(text, |found: &Captures<'_>| {
            let old = found.get(0).map_or("", |found| found.as_str());
            match old.parse() {
                Ok(address) => change(host(address)).address.to_string(),
                Err(_) => old.to_owned(),
            }
        });
        new.into_owned()
    }
}

/// One address, as a network.
const fn host(address: IpAddr) -> Prefix {
    Prefix { address, length: if address.is_ipv4() { 32 } else { 128 } }
}

/// Whether an address identifies something. Halves of a default route and netmasks do not.
fn replaceable(address: IpAddr) -> bool {
    let other = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !other
        && match address {
            IpAddr::V4(own) => own.octets()[0] != 255 && own != Ipv4Addr::new(128, 0, 0, 0),
            IpAddr::V6(own) => own != Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0),
        }
}

/// What rtnetlink answered.
fn network(content: &[u8], change: &mut dyn FnMut(Prefix) -> Prefix) -> Option<Vec<u8>> {
    let mut all: Network = serde_json::from_slice(content).ok()?;
    for address in &mut all.routes.addresses {
        address.address = interface(address.address, change);
    }
    for route in &mut all.routes.routes {
        route.to = change(route.to);
    }
    for rule in &mut all.routes.rules {
        rule.to = rule.to.map(&mut *change);
    }
    for link in all.links.links.values_mut() {
        link.remote = link.remote.map(|address| change(host(address)).address);
    }
    serde_json::to_vec(&all).ok()
}

/// An address with its network's length.
fn interface(address: Prefix, change: &mut dyn FnMut(Prefix) -> Prefix) -> Prefix {
    let length = change(address.network()).length;
    Prefix { address: change(host(address.address)).address, length }
}

/// A line of /proc/net/route.
fn line_of_route(line: &str, change: &mut dyn FnMut(Prefix) -> Prefix) -> Option<String> {
    let IpAddr::V4(_) = network::route_v4(line)?.to.address else { return None };
    let to = change(network::route_v4(line)?.to);
    let IpAddr::V4(address) = to.address else { return None };
    let mask = u32::MAX.checked_shl(32u32.saturating_sub(to.length.into())).unwrap_or(0);
    let mut fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    *fields.get_mut(1)? = format!("{:08X}", address.to_bits().to_be());
    *fields.get_mut(7)? = format!("{:08X}", mask.to_be());
    Some(fields.join("\t"))
}

/// A line of /proc/net/ipv6_route.
fn line_of_route_v6(line: &str, change: &mut dyn FnMut(Prefix) -> Prefix) -> Option<String> {
    let to = change(network::route_v6(line)?.to);
    let IpAddr::V6(address) = to.address else { return None };
    let mut fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    *fields.get_mut(0)? = format!("{:032x}", address.to_bits());
    *fields.get_mut(1)? = format!("{:02x}", to.length);
    Some(fields.join(" "))
}

/// A line of /proc/net/if_inet6.
fn line_of_address_v6(line: &str, change: &mut dyn FnMut(Prefix) -> Prefix) -> Option<String> {
    let own = interface(network::address_v6(line)?.address, change);
    let IpAddr::V6(address) = own.address else { return None };
    let mut fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    *fields.get_mut(0)? = format!("{:032x}", address.to_bits());
    *fields.get_mut(2)? = format!("{:02x}", own.length);
    Some(fields.join(" "))
}

/// A line of /proc/net/tcp or tcp6.
fn line_of_connection(line: &str, change: &mut dyn FnMut(Prefix) -> Prefix) -> Option<String> {
    let mut fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let (address, port) = network::socket_address(fields.get(2)?)?;
    let new = network::socket_address_text(change(host(address)).address);
    *fields.get_mut(2)? = format!("{new}:{port:04X}");
    Some(fields.join(" "))
}

/// The bits of an address, from the first one on.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A new network that begins with these bits.
#[derive(Clone, Copy)]
struct New {
    bits: u128,
    length: u8,
    most: u8,
}

impl New {
    fn child(self, bit: bool) -> Self {
        if self.length >= self.most {
            return self;
        }
        let bit = u128::from(bit) << (127 - u32::from(self.length.min(127)));
        Self { bits: self.bits | bit, length: self.length + 1, ..self }
    }

    /// The replacement of a network, or of one address.
    fn replaces(self, old: Prefix) -> Prefix {
        let one_address = old.length >= self.most;
        // A network's first address is none of its hosts'.
        let host = u128::from(one_address && self.length < self.most);
        let bits = self.bits | host << (128 - u32::from(self.most));
        let address = if self.most == 32 {
            Ipv4Addr::from_bits(u32::try_from(bits >> 96).unwrap_or_default()).into()
        } else {
            Ipv6Addr::from_bits(bits).into()
        };
        Prefix { address, length: if one_address { self.most } else { self.length } }
    }
}

/// The replacements of networks and addresses of one family.
fn replacements(items: &[Prefix]) -> Vec<(Prefix, Prefix)> {
    let v4 = items.first().is_some_and(|item| item.address.is_ipv4());
    let begin = |address: IpAddr, length: u8| New {
        bits: bits(address),
        length,
        most: if v4 { 32 } else { 128 },
    };
    let starts = if v4 {
        let documentation = begin(Ipv4Addr::new(192, 0, 2, 0).into(), 24);
        vec![documentation, begin(Ipv4Addr::new(198, 18, 0, 0).into(), 15)]
    } else {
        vec![begin(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).into(), 32)]
    };
    let mut made = Vec::new();
    for start in starts {
        made.clear();
        replace(items, start, &mut made);
        let different: BTreeSet<Prefix> = made.iter().map(|(_, new)| *new).collect();
        if different.len() == items.len() {
            break;
        }
    }
    made
}

/// Keeps only those bits by which networks differ, and one where a network ends in which others are.
fn replace(items: &[Prefix], new: New, made: &mut Vec<(Prefix, Prefix)>) {
    let Some(first) = items.first() else { return };
    let shortest = items.iter().map(|item| item.length).min().unwrap_or_default();
    let differ = items.iter().map(|item| bits(item.address) ^ bits(first.address));
    let same = differ.fold(0, |all, one| all | one).leading_zeros();
    let common = u8::try_from(same).unwrap_or(128).min(shortest);
    let (here, within): (Vec<Prefix>, Vec<Prefix>) =
        items.iter().partition(|item| item.length == common);
    made.extend(here.into_iter().map(|item| (item, new.replaces(item))));
    let is_one = |item: &Prefix| bits(item.address) << u32::from(common.min(127)) >> 127 == 1;
    let (ones, zeros): (Vec<Prefix>, Vec<Prefix>) = within.into_iter().partition(is_one);
    replace(&zeros, new.child(false), made);
    replace(&ones, new.child(true), made);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::archive::{Entry, Kind};

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
    }

    fn replaced(files: &[(&str, &str)]) -> Vec<String> {
        let mut entries = Entries::default();
        for (path, text) in files {
            let kind = Kind::File(Some(text.as_bytes().to_vec()));
            entries.files.insert((*path).to_owned(), Entry { kind, ..Entry::default() });
        }
        let addresses = Addresses::of(&entries).unwrap();
        let new = |(path, text): &(&str, &str)| {
            String::from_utf8(addresses.replaced(path, text.as_bytes().to_vec())).unwrap()
        };
        files.iter().map(new).collect()
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_server_stays_in_the_network_of_its_route() {
        let new = replaced(&[
            (
                "proc/1/net/route",
                "Iface\tDest\neth0\t0001A8C0\t0\t0001\t0\t0\t0\t00FFFFFF\neth0\t00000000\t0\t0003\t0\t0\t0\t00000000\n",
            ),
            ("proc/1/mountinfo", "22 1 0:20 / / rw - nfs 192.168.1.2:/root rw,addr=192.168.1.2\n"),
            (
                "proc/cmdline",
                "nfsroot=192.168.1.2:/root ip=192.168.1.5:::255.255.255.0:: x=6.12.43\n",
            ),
        ]);
        assert_eq!(
            new[0],
            "Iface\tDest\neth0\t000200C0\t0\t0001\t0\t0\t0\t00FFFFFF\neth0\t00000000\t0\t0003\t0\t0\t0\t00000000\n"
        );
        assert_eq!(new[1], "22 1 0:20 / / rw - nfs 192.0.2.1:/root rw,addr=192.0.2.1\n");
        assert_eq!(new[2], "nfsroot=192.0.2.1:/root ip=192.0.2.65:::255.255.255.0:: x=6.12.43\n");
    }

    #[test]
    fn addresses_of_ipv6_are_replaced_in_each_form() {
        let own = "fd00000000000001000000000000000a";
        let new = replaced(&[
            ("proc/1/net/if_inet6", &format!("{own} 02 40 00 80     eth0\n")),
            ("sys/class/nvme/nvme1/address", "traddr=fd00:0:0:1::b,trsvcid=4420\n"),
        ]);
        assert!(new[0].starts_with("20010db8"), "{new:?}");
        assert!(new[1].starts_with("traddr=2001:db8:"), "{new:?}");
    }

    /// Such lengths made replacing go round in a circle.
    #[test]
    fn networks_longer_than_an_address_are_left_alone() {
        let own = "fd00000000000001000000000000000a";
        let route = format!("{own} ff 0 0 0 0 0 0 00000001 eth0\n");
        let address = format!("{own} 02 ff 00 80     eth0\n");
        let network = r#"{"routes":{"addresses":[{"interface":"eth0","address":{"address":"10.1.2.3","length":33}}]}}"#;
        let files: [(&str, &str); 3] =
            [("x/net/ipv6_route", &route), ("x/net/if_inet6", &address), (FILE, network)];
        assert_eq!(replaced(&files), files.map(|(_, text)| text.to_owned()));
    }

    fn any_prefix() -> impl Strategy<Value = Prefix> {
        (any::<u16>(), 1u8..=32).prop_map(|(bits, length)| {
            // Close together, so that many are nested.
            let address = Ipv4Addr::from_bits(0x0a00_0000 | u32::from(bits) << 8);
            Prefix { address: address.into(), length }.network()
        })
    }

    proptest! {
        #[test]
        fn the_relation_of_networks_stays(items in proptest::collection::btree_set(any_prefix(), 1..30)) {
            let items: Vec<Prefix> = items.into_iter().collect();
            let made = replacements(&items);
            prop_assert_eq!(made.len(), items.len());
            for (old, new) in &made {
                let base = prefix("192.0.2.0/24").contains(new.address)
                    || prefix("198.18.0.0/15").contains(new.address);
                prop_assert!(base, "{} {}", old, new);
                for (other, its_new) in &made {
                    let inside = |a: &Prefix, b: &Prefix| a.length <= b.length && a.contains(b.address);
                    prop_assert_eq!(inside(old, other), inside(new, its_new), "{} {}: {} {}", old, other, new, its_new);
                }
            }
        }

        #[test]
        fn no_file_panics(text in "([0-9a-f]{0,33}[ :.%/=\t]|eth0 |[0-9]{1,3}\\.|.|\n){0,30}") {
            for path in ["x/net/route", "x/net/ipv6_route", "x/net/if_inet6", "x/net/tcp", "x/mountinfo", FILE] {
                let _ = replaced(&[(path, &text)]);
            }
        }
    }
}
