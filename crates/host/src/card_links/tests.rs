//! The lab has the tests of a kernel with bridges; these need none.

use std::fs;

use super::*;

#[test]
fn what_a_tap_receives_the_guest_has_sent() {
    let root = tempfile::tempdir().unwrap();
    for name in ["ho-1a2b3c4d-0", "ho-1a2b3c4d-1"] {
        let at = root.path().join(NET).join(name).join("statistics");
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("rx_bytes"), "10\n").unwrap();
        fs::write(at.join("tx_bytes"), "3\n").unwrap();
    }
    fs::write(root.path().join(NET).join("ho-1a2b3c4d-0/tun_flags"), "0x5002\n").unwrap();
    let usage = |name: &str| KernelLinks.usage(root.path(), name);
    assert_eq!(usage("ho-1a2b3c4d-0"), Some(NetworkUsage { received: 3, sent: 10 }));
    assert_eq!(usage("ho-1a2b3c4d-1"), Some(NetworkUsage { received: 10, sent: 3 }));
    assert_eq!(usage("ho-1a2b3c4d-2"), None);
}

#[test]
fn only_a_macvtap_interface_is_removed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join(NET).join("eth0")).unwrap();
    assert_eq!(KernelLinks.remove(root.path(), "eth0", None), Ok(()));
    assert_eq!(KernelLinks.remove(root.path(), "gone", None), Ok(()));
    // One of the right name and kind with another address is another's: removing it would fail here, without a kernel's number.
    let at = root.path().join(NET).join("ho-1a2b3c4d-0");
    fs::create_dir_all(at.join("macvtap")).unwrap();
    fs::write(at.join("address"), "52:54:00:00:00:01\n").unwrap();
    let remove = |mac: &str| KernelLinks.remove(root.path(), "ho-1a2b3c4d-0", mac.parse().ok());
    assert_eq!(remove("52:54:00:00:00:02"), Ok(()));
    assert!(remove("52:54:00:00:00:01").is_err());
}

#[test]
fn a_host_without_the_device_is_told() {
    let root = tempfile::tempdir().unwrap();
    let link = CardLink::Bridge { bridge: "br0".into() };
    let mac = "52:54:00:12:34:56".parse().unwrap();
    let error = KernelLinks.open(root.path(), "ho-1a2b3c4d-0", &link, mac).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot make the tap interface ho-1a2b3c4d-0: No such file or directory"
    );
}

#[test]
fn a_card_whose_bridge_or_interface_was_removed_is_told() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path().join(NET).join("ho-1a2b3c4d-0");
    fs::create_dir_all(&at).unwrap();
    fs::create_dir_all(root.path().join(NET).join("br0")).unwrap();
    let bridge = CardLink::Bridge { bridge: "br0".into() };
    let macvtap = CardLink::Macvtap { interface: "eth0".into(), force: false };
    let lost = |name: &str, link: &CardLink| KernelLinks.lost(root.path(), name, link);
    let said = lost("ho-1a2b3c4d-0", &bridge).unwrap();
    assert!(said.contains("no port of the bridge br0 any more"), "{said}");
    assert!(said.contains("`ip link set ho-1a2b3c4d-0 master br0`"), "{said}");
    std::os::unix::fs::symlink("../br0", at.join("master")).unwrap();
    assert_eq!(lost("ho-1a2b3c4d-0", &bridge), None);
    assert_eq!(lost("ho-1a2b3c4d-0", &macvtap), None);
    assert_eq!(lost("ho-1a2b3c4d-1", &CardLink::User), None);
    for link in [&bridge, &macvtap] {
        let said = lost("ho-1a2b3c4d-1", link).unwrap();
        assert!(said.starts_with("the interface ho-1a2b3c4d-1 was removed"), "{said}");
    }
}
