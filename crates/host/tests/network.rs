//! Network interfaces in use by the host: by sysfs and procfs of a fake host, and by what a recording has of rtnetlink.
#![allow(clippy::unwrap_used)]

mod fake;

use fake::Fake;
use host::LinuxHost;
use host::record::Recording;
use model::{Address, HolderKind, Host};

const NIC: &str = "0000:02:00.0";

/// A host with a network card whose interface `eno1` is up, and not used for anything.
fn idle() -> Fake {
    let fake = Fake::new();
    let nic = fake.function(NIC, "8086:1533", "020000");
    nic.group(20).driver("igb").interface("net/eno1");
    nic.with("net/eno1/flags", "0x1003\n").with("net/eno1/operstate", "up\n");
    fake
}

/// Adds a virtual interface that is up.
fn virtual_interface(fake: &Fake, name: &str, kind: &str) {
    let at = format!("sys/devices/virtual/net/{name}");
    fake.file(&format!("{at}/flags"), "0x1003\n");
    fake.file(&format!("{at}/uevent"), format!("DEVTYPE={kind}\nINTERFACE={name}\n"));
    fake.link(&format!("sys/class/net/{name}"), &format!("../../devices/virtual/net/{name}"));
}

/// Makes an interface a port of another, as `netdev_master_upper_dev_link` does.
fn port(fake: &Fake, name: &str, master: &str) {
    fake.link(&format!("sys/class/net/{name}/master"), &format!("../{master}"));
    on(fake, master, name);
}

/// Builds an interface on another.
fn on(fake: &Fake, upper: &str, lower: &str) {
    fake.link(&format!("sys/class/net/{lower}/upper_{upper}"), &format!("../{upper}"));
    fake.link(&format!("sys/class/net/{upper}/lower_{lower}"), &format!("../{lower}"));
}

/// Writes the main table of IPv4: interface, destination, gateway and mask in the kernel's form.
fn routes(fake: &Fake, routes: &[(&str, &str, &str, &str)]) {
    let mut text =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
            .to_owned();
    for (interface, to, gateway, mask) in routes {
        let flags = if *gateway == "00000000" { "0001" } else { "0003" };
        text += &format!("{interface}\t{to}\t{gateway}\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n");
    }
    fake.file("proc/net/route", text);
}

const NONE: &str = "00000000";
const ROUTER: &str = "0101A8C0";
const SUBNET: (&str, &str, &str, &str) = ("eno1", "0001A8C0", NONE, "00FFFFFF");

/// Why the card is in use.
fn reasons(fake: &Fake) -> Vec<String> {
    let nic: Address = NIC.parse().unwrap();
    let holders = LinuxHost::reader(fake.root()).unwrap().holders(&[nic]).unwrap();
    for holder in &holders {
        assert_eq!((holder.kind, holder.address, holder.pid), (HolderKind::Network, nic, None));
    }
    holders.iter().map(model::Holder::user_and_use).collect()
}

#[test]
fn an_idle_interface_is_free() {
    let fake = idle();
    assert_eq!(reasons(&fake), [""; 0]);
    // What each interface has by itself: a link-local address, its network, multicast.
    let (local, own) = ("fe80".to_owned() + &"0".repeat(28), "fe80".to_owned() + &"1".repeat(28));
    let (any, multicast) = ("0".repeat(32), "ff".to_owned() + &"0".repeat(30));
    fake.file("proc/net/if_inet6", format!("{own} 02 40 20 80     eno1\n"));
    let line = |to: &str, length: &str, flags: &str| {
        format!("{to} {length} {any} 00 {any} 00000100 00000001 00000000 {flags}     eno1\n")
    };
    fake.file(
        "proc/net/ipv6_route",
        line(&local, "40", "00000001")
            + &line(&own, "80", "80200001")
            + &line(&multicast, "08", "00000001"),
    );
    routes(&fake, &[("eno1", "0000FEA9", NONE, "0000FFFF"), ("wlan0", NONE, ROUTER, NONE)]);
    assert_eq!(reasons(&fake), [""; 0]);
}

#[test]
fn a_port_of_an_open_vswitch_is_in_use() {
    let fake = idle();
    virtual_interface(&fake, "ovs-system", "");
    virtual_interface(&fake, "br-ex", "");
    port(&fake, "eno1", "ovs-system");
    routes(&fake, &[("br-ex", NONE, ROUTER, NONE), ("br-ex", "0001A8C0", NONE, "00FFFFFF")]);
    assert_eq!(reasons(&fake), ["port of ovs-system on eno1"]);
}

/// Only the directory of the port is in the tree, as in a recording of an earlier version.
#[test]
fn a_master_without_a_directory_counts() {
    let fake = idle();
    fake.link("sys/class/net/eno1/upper_team0", "../../../../virtual/net/team0");
    fake.link("sys/class/net/eno1/master", "../../../../virtual/net/team0");
    assert_eq!(reasons(&fake), ["port of team0 on eno1"]);
}

#[test]
fn a_bridge_names_the_taps_and_containers_on_it() {
    let fake = idle();
    virtual_interface(&fake, "br0", "bridge");
    port(&fake, "eno1", "br0");
    assert_eq!(reasons(&fake), ["port of br0 on eno1"]);
    for peer in ["veth7", "vnet0", "vnet1"] {
        virtual_interface(&fake, peer, "");
        port(&fake, peer, "br0");
    }
    assert_eq!(reasons(&fake), ["port of br0 with veth7, vnet0 and 1 more on eno1"]);
}

#[test]
fn each_kind_of_master_and_upper_counts() {
    for (kind, reason) in [
        ("bond", "port of x0 on eno1"),
        ("team", "port of x0 on eno1"),
        ("bridge", "port of x0 on eno1"),
        ("vrf", "in the VRF x0 on eno1"),
    ] {
        let fake = idle();
        virtual_interface(&fake, "x0", kind);
        port(&fake, "eno1", "x0");
        assert_eq!(reasons(&fake), [reason], "{kind}");
    }
    for (kind, reason) in [
        ("vlan", "VLAN x0 on eno1"),
        ("macvlan", "macvlan x0 on eno1"),
        ("macvtap", "macvtap x0 on eno1"),
        ("ipvlan", "ipvlan x0 on eno1"),
        ("vxlan", "VXLAN x0 on eno1"),
        ("wireguard", "WireGuard x0 on eno1"),
        ("", "lower interface of x0 on eno1"),
    ] {
        let fake = idle();
        virtual_interface(&fake, "x0", kind);
        on(&fake, "x0", "eno1");
        assert_eq!(reasons(&fake), [reason], "{kind}");
    }
}

#[test]
fn a_route_counts_without_a_default_route() {
    let fake = idle();
    routes(&fake, &[SUBNET, ("wlan0", NONE, ROUTER, NONE)]);
    assert_eq!(reasons(&fake), ["route 192.168.1.0/24 on eno1"]);
}

#[test]
fn halves_of_a_default_route_count() {
    let fake = idle();
    let half = ("eno1", "00000080", ROUTER, "00000080");
    routes(&fake, &[SUBNET, ("eno1", NONE, ROUTER, "00000080"), half]);
    assert_eq!(reasons(&fake), ["routes 0.0.0.0/1, 128.0.0.0/1 and 1 more on eno1"]);
}

#[test]
fn a_route_over_what_is_built_on_it_counts() {
    let fake = idle();
    virtual_interface(&fake, "bond0", "bond");
    virtual_interface(&fake, "bond0.5", "vlan");
    port(&fake, "eno1", "bond0");
    on(&fake, "bond0.5", "bond0");
    routes(&fake, &[("bond0.5", NONE, ROUTER, NONE), ("bond0.5", "0001A8C0", NONE, "00FFFFFF")]);
    assert_eq!(
        reasons(&fake),
        [
            "the host's default route, over bond0.5 on eno1",
            "port of bond0 on eno1",
            "route 192.168.1.0/24, over bond0.5 on eno1",
        ]
    );
}

/// The interface that a remedy's commands name.
#[test]
fn a_use_has_the_interface_with_the_address() {
    let looked_at = |fake: &Fake| -> Vec<Option<String>> {
        let host = LinuxHost::reader(fake.root()).unwrap();
        let holders = host.holders(&[NIC.parse().unwrap()]).unwrap();
        holders.into_iter().map(|holder| holder.interface).collect()
    };
    let fake = idle();
    virtual_interface(&fake, "bond0", "bond");
    virtual_interface(&fake, "bond0.5", "vlan");
    port(&fake, "eno1", "bond0");
    on(&fake, "bond0.5", "bond0");
    // Nothing has an address: the port of the bond is shown at the bond.
    assert_eq!(looked_at(&fake), [Some("bond0".into())]);
    routes(&fake, &[("bond0.5", NONE, ROUTER, NONE), ("bond0.5", "0001A8C0", NONE, "00FFFFFF")]);
    assert_eq!(looked_at(&fake), vec![Some("bond0.5".to_owned()); 3]);
    let fake = idle();
    routes(&fake, &[SUBNET]);
    assert_eq!(looked_at(&fake), [Some("eno1".into())]);
    fake.file("handover/network", TOLD);
    fake.function("0000:02:00.1", "8086:1520", "020000").with("net/other", "");
    let at = |name: &str| Some(name.to_owned());
    let expected = [at("br-ex"), at("br-ex"), at("eno1"), at("br-ex"), at("eno1"), at("br-ex")];
    assert_eq!(looked_at(&fake), expected);
    let host = LinuxHost::reader(fake.root()).unwrap();
    let moved = host.holders(&["0000:02:00.1".parse().unwrap()]).unwrap();
    assert_eq!(moved[0].interface, None, "it is in another network namespace");
}

#[test]
fn an_address_of_ipv6_counts() {
    let fake = idle();
    fake.file("proc/net/if_inet6", "20010db8000000000000000000000005 02 40 00 80     eno1\n");
    assert_eq!(reasons(&fake), ["address 2001:db8::5/64 on eno1"]);
    let (to, any) = ("20010db8".to_owned() + &"0".repeat(24), "0".repeat(32));
    fake.file(
        "proc/net/ipv6_route",
        format!("{to} 40 {any} 00 {any} 00000100 00000001 00000000 00000001     eno1\n"),
    );
    assert_eq!(reasons(&fake), ["route 2001:db8::/64 on eno1"]);
}

#[test]
fn an_interface_that_is_set_down_is_free() {
    let fake = idle();
    virtual_interface(&fake, "bond0", "bond");
    port(&fake, "eno1", "bond0");
    // The bond goes on with its other port.
    routes(&fake, &[("bond0", NONE, ROUTER, NONE)]);
    assert_eq!(reasons(&fake).len(), 2);
    fake.file("sys/class/net/eno1/flags", "0x1002\n");
    assert_eq!(reasons(&fake), [""; 0]);
    // Without a carrier it is still the host's.
    fake.file("sys/class/net/eno1/flags", "0x1003\n");
    fake.file("sys/class/net/eno1/operstate", "down\n");
    assert_eq!(reasons(&fake).len(), 2);
}

#[test]
fn the_root_file_system_on_nfs_is_named_first() {
    let fake = idle();
    routes(&fake, &[SUBNET]);
    fake.file(
        "proc/self/mountinfo",
        "22 1 0:20 / / rw - nfs 192.168.1.2:/root rw,addr=192.168.1.2\n",
    );
    assert_eq!(reasons(&fake), ["NFS / from 192.168.1.2 on eno1", "route 192.168.1.0/24 on eno1"]);
    // Another interface has the more specific route.
    routes(&fake, &[SUBNET, ("wlan0", "0201A8C0", NONE, "FFFFFFFF")]);
    assert_eq!(reasons(&fake), ["route 192.168.1.0/24 on eno1"]);
}

#[test]
fn sessions_with_storage_servers_are_named() {
    let fake = idle();
    routes(&fake, &[SUBNET]);
    let session = "sys/devices/platform/host3/session1";
    fake.file(
        &format!("{session}/connection1:0/iscsi_connection/connection1:0/address"),
        "192.168.1.3\n",
    );
    fake.link(
        "sys/class/iscsi_connection/connection1:0",
        &format!("../../{}/connection1:0/iscsi_connection/connection1:0", &session[4..]),
    );
    fake.file("sys/class/iscsi_session/session1/targetname", "iqn.2003-01.org.example:disk\n");
    fake.file("sys/class/nvme/nvme1/transport", "tcp\n");
    fake.file(
        "sys/class/nvme/nvme1/address",
        "traddr=192.168.1.4,trsvcid=4420,src_addr=192.168.1.9\n",
    );
    fake.file("sys/class/nvme/nvme2/transport", "pcie\n");
    fake.file("sys/class/nvme/nvme2/address", "0000:03:00.0\n");
    fake.file("sys/class/nvme/nvme3/transport", "rdma\n");
    fake.file("sys/class/nvme/nvme3/address", "traddr=10.9.9.9,trsvcid=4420,host_iface=eno1\n");
    fake.file("sys/module/nbd/version", "");
    fake.file("sys/class/block/nbd0/pid", "4711\n").file("sys/class/block/nbd1/size", "0\n");
    fake.link("proc/4711/fd/3", "socket:[99]");
    let connection = |peer: &str, inode: u32| {
        format!("0: 0901A8C0:D2E4 {peer} 01 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n")
    };
    fake.file(
        "proc/net/tcp",
        "sl local\n".to_owned()
            + &connection("0501A8C0:1F90", 99)
            + &connection("0601A8C0:0016", 98),
    );
    assert_eq!(
        reasons(&fake),
        [
            "iSCSI iqn.2003-01.org.example:disk from 192.168.1.3 on eno1",
            "NVMe over TCP nvme1 from 192.168.1.4 on eno1",
            "NVMe over RDMA nvme3 from 10.9.9.9 on eno1",
            "network block device nbd0 from 192.168.1.5 on eno1",
            "route 192.168.1.0/24 on eno1",
        ]
    );
}

/// What rtnetlink answers: tables, rules, kinds and ends of tunnels that no file shows.
const TOLD: &str = r#"{
  "links": {
    "eno1": {"up": true, "master": "ovs-system"},
    "ovs-system": {"up": false, "kind": "openvswitch"},
    "br-ex": {"up": true, "kind": "openvswitch"},
    "gre1": {"up": true, "kind": "gre", "remote": "203.0.113.9"}
  },
  "addresses": [{"interface": "br-ex", "address": {"address": "192.168.1.5", "length": 24}}],
  "routes": [
    {"to": {"address": "0.0.0.0", "length": 0}, "table": 100, "interfaces": ["br-ex"], "gateway": true},
    {"to": {"address": "203.0.113.0", "length": 24}, "table": 254, "interfaces": ["br-ex"]},
    {"to": {"address": "192.168.1.5", "length": 32}, "table": 255, "interfaces": ["br-ex"], "local": true}
  ],
  "rules": [
    {"v6": false, "table": 255},
    {"v6": false, "table": 100, "interfaces": ["eno1"], "conditional": true},
    {"v6": false, "table": 254}
  ],
  "elsewhere": [
    {"name": "eth0", "on": "eno1", "kind": "macvlan", "of": "nginx (pid 7)"},
    {"name": "net1", "function": "0000:02:00.1", "of": "nginx (pid 7)"}
  ]
}"#;

#[test]
fn what_rtnetlink_answered_has_all_tables_rules_and_kinds() {
    let fake = idle();
    fake.file("handover/network", TOLD);
    assert_eq!(
        reasons(&fake),
        [
            "the default route of table 100, over br-ex on eno1",
            "port of ovs-system on eno1",
            "macvlan eth0 in the network namespace of nginx (pid 7) on eno1",
            "tunnel gre1 to 203.0.113.9, over br-ex on eno1",
            "policy rule for table 100 on eno1",
            "route 203.0.113.0/24, over br-ex on eno1",
        ]
    );
}

/// A recording tells the same, with other addresses: the server is still in the network of its route.
#[test]
fn a_recording_keeps_why_an_interface_is_in_use() {
    let fake = idle();
    virtual_interface(&fake, "br0", "bridge");
    port(&fake, "eno1", "br0");
    routes(&fake, &[("br0", "0001A8C0", NONE, "00FFFFFF"), ("wlan0", NONE, ROUTER, NONE)]);
    fake.file("proc/net/if_inet6", "fd00000000000000000000000000abcd 02 40 00 80     br0\n");
    fake.file(
        "proc/self/mountinfo",
        "22 1 0:20 / / rw - nfs 192.168.1.2:/root rw,vers=3,addr=192.168.1.2\n",
    );
    fake.file("proc/cmdline", "root=/dev/nfs nfsroot=192.168.1.2:/root\n");
    fake.file("proc/sys/kernel/hostname", "wintermute\n");
    let expected = [
        "NFS / from 192.0.2.1, over br0 on eno1",
        "port of br0 on eno1",
        "route 192.0.2.0/24, over br0 on eno1",
    ];
    let told = |root: &std::path::Path| -> Vec<String> {
        let host = LinuxHost::reader(root).unwrap();
        let holders = host.holders(&[NIC.parse().unwrap()]).unwrap();
        holders.iter().map(model::Holder::user_and_use).collect()
    };
    let place = tempfile::tempdir().unwrap();
    for keep in [true, false] {
        let file = place.path().join("recording.tar.gz");
        let recording = Recording::make(fake.root(), keep).unwrap();
        recording.write(std::fs::File::create(&file).unwrap()).unwrap();
        if keep {
            assert_eq!(told(&file), told(fake.root()));
        } else {
            assert_eq!(told(&file), expected);
        }
    }
    fake.file("handover/network", TOLD);
    let file = place.path().join("told.tar.gz");
    let recording = Recording::make(fake.root(), false).unwrap();
    recording.write(std::fs::File::create(&file).unwrap()).unwrap();
    let now = told(&file);
    assert_eq!(now[0], "NFS / from 192.0.2.1, over br-ex on eno1", "by the rule for table 100");
    assert!(now[1].starts_with("the default route of table 100"), "{now:?}");
    assert!(now.iter().any(|reason| reason.starts_with("tunnel gre1 to 192.0.2.")), "{now:?}");
    assert!(!now.iter().any(|reason| reason.contains("203.0.113")), "{now:?}");
}

/// Such as a virtual function that a container has: here it has a network driver, and no interface.
#[test]
fn an_interface_in_another_network_namespace_is_in_use() {
    let fake = idle();
    fake.function("0000:02:00.1", "8086:1520", "020000").with("net/other", "");
    fake.function("0000:02:00.2", "8086:1520", "020000").with("net/other", "");
    fake.file("handover/network", TOLD);
    let told = |address: &str| {
        let host = LinuxHost::reader(fake.root()).unwrap();
        let holders = host.holders(&[address.parse().unwrap()]).unwrap();
        holders.iter().map(model::Holder::user_and_use).collect::<Vec<_>>()
    };
    assert_eq!(told("0000:02:00.1"), ["network namespace of nginx (pid 7) on net1"]);
    assert_eq!(told("0000:02:00.2"), [""; 0]);
}

/// The namespace can be one that only an open file keeps, or one that this user may not enter.
#[test]
fn a_function_whose_interfaces_are_all_hidden_is_in_use() {
    let fake = idle();
    fake.function("0000:02:00.1", "8086:1520", "020000");
    fake.function("0000:02:00.2", "8086:1520", "020000");
    std::fs::create_dir(fake.path("sys/bus/pci/devices/0000:02:00.1/net")).unwrap();
    let told = |address: &str| {
        let host = LinuxHost::reader(fake.root()).unwrap();
        let holders = host.holders(&[address.parse().unwrap()]).unwrap();
        let all = host.overview().unwrap().1;
        let of_it = |holder: &&model::Holder| holder.address.to_string() == address;
        let listed: Vec<_> = all.iter().filter(of_it).map(model::Holder::user_and_use).collect();
        assert_eq!(listed, holders.iter().map(model::Holder::user_and_use).collect::<Vec<_>>());
        listed
    };
    let unread = "a network namespace that cannot be read on an interface there";
    assert_eq!(told("0000:02:00.1"), [unread]);
    assert_eq!(told("0000:02:00.2"), [""; 0]);
    // One that is set down in a namespace that was read is known, and free.
    let down = r#"{"name":"eth7","function":"0000:02:00.1","at":"/run/netns/vpp","down":true}"#;
    fake.file("handover/network", format!("{{\"elsewhere\":[{down}]}}"));
    assert_eq!(told("0000:02:00.1"), [""; 0]);
    fake.file("handover/network", format!("{{\"elsewhere\":[{}]}}", down.replace("true", "false")));
    assert_eq!(told("0000:02:00.1"), ["network namespace at /run/netns/vpp on eth7"]);
}

#[test]
fn a_damaged_answer_is_read_from_files_instead() {
    let fake = idle();
    fake.file("handover/network", "{\"links\": 7}");
    routes(&fake, &[SUBNET]);
    assert_eq!(reasons(&fake), ["route 192.168.1.0/24 on eno1"]);
}
