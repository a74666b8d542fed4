//! Whether a network card can be connected to a bridge or an interface.

use std::path::Path;

use model::LinkError;

use super::{NET, is_up, opened};
use crate::holders::network::Network;
use crate::root::Root;

/// `ARPHRD_ETHER` in include/uapi/linux/if_arp.h.
const ETHERNET: &str = "1";

/// Checks a bridge.
pub fn bridge(root: &Path, name: &str) -> Result<(), LinkError> {
    let root = opened(root)?;
    let at = format!("{NET}/{name}");
    if !root.exists(&at) {
        return Err(unusable(format!("this host has no bridge {name}"), &bridges(&root)));
    }
    if !root.exists(&format!("{at}/bridge")) {
        let reason = format!("{name} is not a bridge of Linux (an Open vSwitch is not supported)");
        return Err(unusable(reason, &bridges(&root)));
    }
    expect_up(&root, name)
}

/// Checks an interface for macvtap.
pub fn macvtap(root: &Path, name: &str, force: bool) -> Result<(), LinkError> {
    let root = opened(root)?;
    let at = format!("{NET}/{name}");
    if !root.exists(&at) {
        return Err(unusable(format!("this host has no interface {name}"), "`ip link` lists them"));
    }
    if root.attribute(&format!("{at}/type")).ok().as_deref() != Some(ETHERNET) {
        return Err(unusable(format!("{name} is not an Ethernet interface"), "choose another one"));
    }
    if ["wireless", "phy80211"].iter().any(|file| root.exists(&format!("{at}/{file}"))) {
        return Err(unusable(
            format!("{name} is wireless: access points accept only its own hardware address"),
            "use a wired interface, or the mode `user`",
        ));
    }
    if root.exists(&format!("{at}/brport")) {
        let bridge = root.link_name(&format!("{at}/master")).unwrap_or_default();
        return Err(unusable(
            format!("{name} is a port of the bridge {bridge}, which takes all its packets"),
            &format!("use `bridge={bridge}`"),
        ));
    }
    expect_up(&root, name)?;
    if !force && is_only_way_out(&root, name) {
        return Err(unusable(
            format!("{name} is this host's only way out"),
            "a macvtap interface leaves the host's own traffic alone, but puts the guest's beside it, and the guest and this \
             host cannot reach each other: if you want that, add `force`; or use the mode `user`, or another interface",
        ));
    }
    Ok(())
}

fn expect_up(root: &Root, name: &str) -> Result<(), LinkError> {
    if is_up(root, name) {
        return Ok(());
    }
    Err(unusable(format!("{name} is down"), &format!("`ip link set {name} up` sets it up")))
}

/// The bridges of this host, as a remedy.
fn bridges(root: &Root) -> String {
    let mut names = root.names(NET).unwrap_or_default();
    names.retain(|name| root.exists(&format!("{NET}/{name}/bridge")));
    names.sort();
    match names.as_slice() {
        [] => "it has none: make one with your distribution's network configuration, or use the mode `user`".into(),
        names => format!("its bridges: {}", names.join(", ")),
    }
}

/// Whether the host has a default route over this interface, or one that is built on it, and no other.
fn is_only_way_out(root: &Root, name: &str) -> bool {
    let network = Network::read(root);
    let stack = network.links.stack(name);
    let (own, others): (Vec<&str>, Vec<&str>) =
        network.routes.ways_out().into_iter().partition(|interface| stack.contains(interface));
    !own.is_empty() && others.is_empty()
}

fn unusable(reason: String, remedy: &str) -> LinkError {
    LinkError::Unusable { reason, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A host with these files below `sys/class/net`, and this table of routes.
    fn host(files: &[(&str, &str)], routes: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(NET).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        fs::write(root.path().join("proc/net/route"), routes).unwrap();
        root
    }

    const UP: &str = "0x1003\n";
    const HEAD: &str =
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    fn default_over(name: &str) -> String {
        format!("{name}\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
    }

    fn said(result: Result<(), LinkError>) -> String {
        match result {
            Ok(()) => String::new(),
            Err(LinkError::Unusable { reason, remedy }) => format!("{reason} ({remedy})"),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn a_bridge_must_exist_be_one_and_be_up() {
        let files = [
            ("br0/bridge/bridge_id", "x"),
            ("br0/flags", UP),
            ("br1/bridge/bridge_id", "x"),
            ("br1/flags", "0x1002\n"),
            ("eth0/flags", UP),
        ];
        let host = host(&files, HEAD);
        let check = |name: &str| said(bridge(host.path(), name));
        assert_eq!(check("br0"), "");
        assert_eq!(check("br1"), "br1 is down (`ip link set br1 up` sets it up)");
        assert_eq!(check("br9"), "this host has no bridge br9 (its bridges: br0, br1)");
        assert!(check("eth0").starts_with("eth0 is not a bridge of Linux"));
    }

    #[test]
    fn an_interface_must_be_able_to_carry_a_guest() {
        let files = [
            ("eth0/flags", UP),
            ("eth0/type", "1\n"),
            ("eth1/flags", UP),
            ("eth1/type", "1\n"),
            ("eth1/brport/path_cost", "4\n"),
            ("wlan0/flags", UP),
            ("wlan0/type", "1\n"),
            ("wlan0/phy80211/index", "0\n"),
            ("lo/flags", UP),
            ("lo/type", "772\n"),
        ];
        let host = host(&files, HEAD);
        let check = |name: &str| said(macvtap(host.path(), name, false));
        assert_eq!(check("eth0"), "");
        assert!(check("eth1").starts_with("eth1 is a port of the bridge"));
        assert!(check("wlan0").starts_with("wlan0 is wireless"));
        assert!(check("lo").starts_with("lo is not an Ethernet interface"));
        assert!(check("eth9").starts_with("this host has no interface eth9"));
    }

    #[test]
    fn the_hosts_only_way_out_needs_consent() {
        let files =
            [("eth0/flags", UP), ("eth0/type", "1\n"), ("eth1/flags", UP), ("eth1/type", "1\n")];
        let one = host(&files, &format!("{HEAD}{}", default_over("eth0")));
        let check = |name: &str, force| said(macvtap(one.path(), name, force));
        assert!(check("eth0", false).starts_with("eth0 is this host's only way out"));
        assert_eq!(check("eth0", true), "");
        assert_eq!(check("eth1", false), "");
        let routes = format!("{HEAD}{}{}", default_over("eth0"), default_over("eth1"));
        let two = host(&files, &routes);
        assert_eq!(said(macvtap(two.path(), "eth0", false)), "");
    }
}
