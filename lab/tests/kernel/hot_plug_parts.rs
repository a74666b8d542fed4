//! Parts of devices come to a running machine and leave it: a virtual function, a mediated device, and a vGPU of NVIDIA's
//! vendor-specific VFIO (by the lab's module `labvf`, a stand-in for NVIDIA's driver).

use crate::claims::snapshot;
use crate::support::{Host, IGB, thoroughly, wanted};

/// The GPU with mediated devices, of the `server` topology.
const MDEV_GPU: &str = "0000:44:00.0";

/// How often each part comes and leaves.
fn rounds() -> usize {
    if thoroughly() { 20 } else { 2 }
}

/// A command in the guest, by `handover instance ssh`.
fn guest(host: &Host, command: &str) -> String {
    host.sh(&format!("handover instance ssh dev -- -i /root/key '{command}' 2>&1"))
}

/// How many PCI functions of this vendor and device the guest has.
fn count(host: &Host, ids: &str) -> usize {
    let list = guest(host, "cut -f 2 /proc/bus/pci/devices");
    list.lines().filter(|line| *line == ids).count()
}

#[test]
fn parts_come_to_a_running_machine_and_leave() {
    if !wanted() {
        return;
    }
    let host = Host::shared("server");
    host.serve("");
    let unused = snapshot(&host);
    host.import_guest_with("person", "ssh.gz", "handover.run=firstboot handover.stay=1");
    host.sh("ssh-keygen -q -t ed25519 -N '' -C me@l1 -f /root/key");
    host.sh("handover instance create dev --image person --size 256MB --vcpus 1 --ssh-key /root/key.pub --network user");
    host.guest_report("dev");

    a_virtual_function_works_in_the_guest(&host);
    comes_and_leaves(&host, &format!("profile=labgpu-475@{MDEV_GPU}"), "10de2235");
    host.vgpu_functions(IGB);
    comes_and_leaves(&host, &format!("profile=L40S-2Q@{IGB}"), "808610ca");
    let types =
        host.sh(&format!("cat /sys/bus/pci/devices/{IGB}/virtfn*/nvidia/current_vgpu_type"));
    assert_eq!(types, "0\n0\n0\n0\n", "the vGPU is freed");

    host.sh(&format!(
        "echo 0 >/sys/bus/pci/devices/{IGB}/sriov_numvfs; modprobe -r labvf
         handover instance rm dev; handover image rm person; rm /root/key /root/key.pub"
    ));
    assert_eq!(snapshot(&host), unused);
}

/// The part comes, is seen by the guest and leaves; the host is as it was after each round.
fn comes_and_leaves(host: &Host, want: &str, ids: &str) {
    let before = snapshot(host);
    for round in 0..rounds() {
        host.sh(&format!("handover instance attach dev --device {want}"));
        host.wait(want, 60, || count(host, ids) == 1);
        assert_ne!(snapshot(host), before);
        let machine = host.get("/instances/dev");
        let address = machine["attached"][0]["pci_address"].as_str().unwrap_or_default();
        assert!(!address.is_empty(), "{machine:#}");
        host.sh(&format!("handover instance detach dev {address}"));
        host.wait("it to leave", 30, || count(host, ids) == 0);
        assert_eq!(snapshot(host), before, "{want}, round {round}");
    }
}

/// Its hardware address is the one that was wished, and the guest's driver has it.
fn a_virtual_function_works_in_the_guest(host: &Host) {
    // A function of an igb gets its hardware address only while the device's own interface is up.
    host.sh(&format!(
        "handover sriov set {IGB} 4; ip link set $(ls /sys/bus/pci/devices/{IGB}/net) up"
    ));
    let mac = "52:54:00:00:77:01";
    host.sh(&format!("handover instance attach dev --device vf@{IGB},mac={mac},vlan=7"));
    let card = format!("grep -l {mac} /sys/class/net/*/address | cut -d / -f 5");
    host.wait("the card in the guest", 60, || !guest(host, &card).trim().is_empty());
    let driver =
        guest(host, &format!("basename $(readlink /sys/class/net/$({card})/device/driver)"));
    assert_eq!(driver.trim(), "igbvf");
    let settings = host.sh("ip link show | grep -o ' vf 0 .*'");
    assert!(settings.contains(mac) && settings.contains("vlan 7"), "{settings}");
    let machine = host.get("/instances/dev");
    let address = machine["attached"][0]["pci_address"].as_str().unwrap();
    host.sh(&format!("handover instance detach dev {address}"));
    assert!(!host.sh("ip link show").contains(mac), "the settings are undone");
    comes_and_leaves(host, &format!("vf@{IGB}"), "808610ca");
    host.sh(&format!(
        "ip link set $(ls /sys/bus/pci/devices/{IGB}/net) down; handover sriov set {IGB} 0"
    ));
}
