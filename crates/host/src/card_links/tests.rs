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
    assert_eq!(KernelLinks.remove(root.path(), "eth0"), Ok(()));
    assert_eq!(KernelLinks.remove(root.path(), "gone"), Ok(()));
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
