//! The machines that this host has talked to, by hardware address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use model::Mac;

use crate::root::Root;
use crate::rtnetlink::dump;

/// The neighbors of IPv4: address, hardware type, flags, hardware address, mask, interface (Documentation/filesystems/proc.rst).
const FILE: &str = "proc/net/arp";

/// `ATF_COM` in include/uapi/linux/if_arp.h: the hardware address is known.
const COMPLETE: u32 = 2;

/// Reads them; empty if the kernel does not tell. Of several addresses of one machine, the last one.
pub fn read(root: &Root) -> BTreeMap<Mac, IpAddr> {
    let text = root.text(FILE).unwrap_or_default();
    text.lines().skip(1).filter_map(neighbor).collect()
}

/// The addresses of this host itself; none of another root.
pub fn own(root: &Root) -> Vec<IpAddr> {
    if !root.is_host() {
        return Vec::new();
    }
    dump::addresses().unwrap_or_default().into_iter().map(|own| own.address).collect()
}

fn neighbor(line: &str) -> Option<(Mac, IpAddr)> {
    let mut words = line.split_ascii_whitespace();
    let address: Ipv4Addr = words.next()?.parse().ok()?;
    let flags = words.nth(1)?.strip_prefix("0x")?;
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let mac: Mac = words.next()?.parse().ok()?;
    (flags & COMPLETE != 0).then_some((mac, address.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_that_have_answered_count() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/net")).unwrap();
        let text = "\
IP address       HW type     Flags       HW address            Mask     Device
192.168.1.5      0x1         0x2         52:54:00:12:34:56     *        br0
192.168.1.6      0x1         0x0         00:00:00:00:00:00     *        br0
192.168.1.7      0x1
nonsense
";
        std::fs::write(root.path().join(FILE), text).unwrap();
        let known = read(&Root::open(root.path()).unwrap());
        let mac: Mac = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(known, BTreeMap::from([(mac, "192.168.1.5".parse().unwrap())]));
    }
}
