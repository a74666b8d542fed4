//! Devices come to a running machine and leave it; a part of the test in `first_boot.rs`, whose machine it uses.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{AUDIO, GPU, Host, NIC, NVME, thoroughly};

/// A command in the guest.
fn guest(host: &Host, command: &str) -> String {
    host.sh(&format!("handover instance ssh dev -- -i /root/key '{command}' 2>&1"))
}

/// The devices that the machine has, by address, with their addresses in the guest.
fn attached(host: &Host) -> BTreeMap<String, Value> {
    let machine = host.get("/instances/dev");
    let devices = machine["attached"].as_array().unwrap().iter();
    let address = |device: &Value| device["pci_address"].as_str().unwrap().to_owned();
    devices.map(|device| (address(device), device["guest_address"].clone())).collect()
}

/// Waits until the guest has, or no longer has, what the host has at this address: by its vendor and device.
fn wait_in_guest(host: &Host, ids: &str, count: usize) {
    let list = "cat /proc/bus/pci/devices | cut -f 2";
    host.wait(ids, 60, || guest(host, list).lines().filter(|line| *line == ids).count() == count);
}

/// Devices that nobody has are where they were.
pub fn devices_come_and_leave(host: &Host) {
    let all = [GPU, AUDIO, NIC, NVME];
    let before = host.drivers(&all);
    a_gpu_with_its_audio_comes_and_leaves(host, &before);
    a_nic_and_a_drive_work_in_the_guest(host);
    a_disk_comes_and_leaves(host);
    a_card_comes_and_leaves(host);
    a_guest_that_does_not_let_go_keeps_the_device(host);
    a_device_that_the_guest_ejects_goes_back(host, &before);
    the_daemon_dies_meanwhile(host, &before);
    assert_eq!(host.drivers(&all), before);
}

/// The GPU's memory is written and read. It is at the same address each time.
fn a_gpu_with_its_audio_comes_and_leaves(host: &Host, before: &BTreeMap<String, String>) {
    let mut address = None;
    for round in 0..if thoroughly() { 20 } else { 3 } {
        host.sh(&format!("handover instance attach dev {GPU}"));
        wait_in_guest(host, "10de1aef", 1);
        let there = attached(host)[GPU].as_str().unwrap_or_default().to_owned();
        let gpu = guest(host, "sh /checks/gpu; ls -d /sys/bus/pci/devices/*");
        // The second and the fourth line: its prefetchable BARs have addresses.
        let bars =
            guest(host, &format!("sed -n -e 2p -e 4p /sys/bus/pci/devices/{there}/resource"));
        let is_placed =
            |line: &str| line.starts_with("0x") && !line.starts_with("0x0000000000000000 ");
        assert_eq!(bars.lines().filter(|line| is_placed(line)).count(), 2, "{bars}");
        assert!(
            gpu.contains(&format!("GUEST gpu {there} id=0xB72000A1 pattern=0xC0FFEE42")),
            "{round}: {gpu}"
        );
        assert!(gpu.contains(&there.replace(".0", ".1")), "the audio is beside it: {gpu}");
        assert_eq!(*address.get_or_insert(there.clone()), there);
        host.sh(&format!("handover instance detach dev {GPU}"));
        assert_eq!(&host.drivers(&[GPU, AUDIO, NIC, NVME]), before, "round {round}");
        wait_in_guest(host, "10de2204", 0);
    }
}

fn a_nic_and_a_drive_work_in_the_guest(host: &Host) {
    host.sh(&format!(
        "handover instance attach dev {NIC}; handover instance attach dev --device {NVME}"
    ));
    host.wait("the drivers in the guest", 60, || {
        let drivers = guest(host, "ls /sys/bus/pci/drivers/e1000e /sys/class/nvme/*/device/driver 2>/dev/null; cat /sys/class/nvme/*/state");
        drivers.contains("0000:") && drivers.contains("live")
    });
    assert_eq!(attached(host).len(), 2);
    // The machine was started without a device: the first one chose the way.
    let has_iommufd = host.sh("ls /dev").lines().any(|name| name == "iommu");
    let access = if has_iommufd { "descriptors" } else { "groups" };
    assert_eq!(host.get("/instances/dev")["device_access"], access);
    assert_eq!(host.sh("find /dev -user 1900000000").is_empty(), has_iommufd);
    host.sh(&format!("handover instance detach dev {NVME}; handover instance detach dev {NIC}"));
    assert!(attached(host).is_empty());
}

/// The guest's name of the disk with this serial number; nothing if it has none.
fn disk_in_guest(host: &Host, serial: &str) -> String {
    let script = format!(
        "for disk in /sys/block/vd*; do [ \"$(cat $disk/serial)\" = {serial} ] && echo ${{disk##*/}}; done; true"
    );
    guest(host, &script).trim().to_owned()
}

/// A volume is written by the guest, and has kept it when it comes again. QEMU closes its file.
fn a_disk_comes_and_leaves(host: &Host) {
    host.sh("handover volume create hot --size 1GB");
    let files = || host.sh("ls -l /proc/$(pgrep -x qemu-system-x86)/fd | grep -c /volumes/; true");
    let before = files();
    for round in 0..2 {
        host.sh("handover instance attach dev hot");
        host.wait("the disk in the guest", 60, || !disk_in_guest(host, "hot").is_empty());
        let disk = disk_in_guest(host, "hot");
        if round == 0 {
            guest(host, &format!("echo written while it ran >/dev/{disk}; sync"));
        }
        let text = guest(host, &format!("head -c 21 /dev/{disk}"));
        assert!(text.contains("written while it ran"), "round {round}: {text}");
        assert_ne!(files(), before, "QEMU has the file");
        host.sh("handover instance detach dev hot");
        host.wait("the disk to leave", 30, || disk_in_guest(host, "hot").is_empty());
        assert_eq!(files(), before, "QEMU has closed the file");
    }
    host.sh("handover volume rm hot");
}

/// A card of the machine's bridge and one of its macvtap interface: the host keeps nothing of them.
fn a_card_comes_and_leaves(host: &Host) {
    let links = || host.sh("ip -o link | cut -d ' ' -f 2 | sort");
    let before = links();
    for (network, mac) in
        [("bridge=br0", "52:54:00:12:34:5a"), ("macvtap=side0", "52:54:00:12:34:5b")]
    {
        host.sh(&format!("handover instance attach dev --network {network},mac={mac}"));
        let seen = format!("grep -l {mac} /sys/class/net/*/address | wc -l");
        host.wait("the card in the guest", 60, || guest(host, &seen).trim() == "1");
        assert_ne!(links(), before, "{network}");
        host.sh(&format!("handover instance detach dev {mac}"));
        host.wait("the card to leave", 30, || guest(host, &seen).trim() == "0");
        assert_eq!(links(), before, "{network}");
    }
}

/// The guest does not hear that a device is to leave (general-purpose event 1, `_E01` of QEMU's DSDT), and then does.
fn a_guest_that_does_not_let_go_keeps_the_device(host: &Host) {
    host.sh(&format!("handover instance attach dev {NIC}"));
    host.wait("the NIC in the guest", 60, || {
        guest(host, "ls /sys/bus/pci/drivers/e1000e").contains("0000:")
    });
    guest(host, "echo mask >/sys/firmware/acpi/interrupts/gpe01");
    let refused = host.ask("DELETE", &format!("/instances/dev/devices/{NIC}?timeout=2s"), None);
    refused.refused(409, "guest_keeps_device");
    let machine = host.get("/instances/dev");
    let problem = machine["state_error"].as_str().unwrap_or_default();
    assert!(problem.contains(&format!("let go of {NIC}")), "{problem}");
    assert_eq!(attached(host).len(), 1, "it is still the machine's");
    guest(host, "echo unmask >/sys/firmware/acpi/interrupts/gpe01");
    host.wait("the late end", 90, || attached(host).is_empty());
    assert_eq!(host.get("/instances/dev")["state_error"], Value::Null);
}

fn a_device_that_the_guest_ejects_goes_back(host: &Host, before: &BTreeMap<String, String>) {
    host.sh(&format!("handover instance attach dev {NIC}"));
    host.wait("the NIC in the guest", 60, || {
        guest(host, "ls /sys/bus/pci/drivers/e1000e").contains("0000:")
    });
    let there = attached(host)[NIC].as_str().unwrap_or_default().to_owned();
    let slot = there.trim_end_matches(".0");
    guest(
        host,
        &format!(
            "for slot in /sys/bus/pci/slots/*; do [ $(cat $slot/address) = {slot} ] && echo 0 >$slot/power; done; true"
        ),
    );
    host.wait("the daemon to notice it", 90, || {
        let machine = host.get("/instances/dev");
        machine["state_error"].as_str().unwrap_or_default().contains("has ejected")
    });
    assert_eq!(host.drivers(&[NIC])[NIC], before[NIC]);
    host.sh(&format!("handover instance attach dev {NIC}"));
    host.wait("the NIC in the guest", 60, || {
        guest(host, "ls /sys/bus/pci/drivers/e1000e").contains("0000:")
    });
    host.sh(&format!("handover instance detach dev {NIC}"));
}

/// The daemon is killed while it attaches and while it detaches, at several moments.
fn the_daemon_dies_meanwhile(host: &Host, before: &BTreeMap<String, String>) {
    for (verb, pause) in
        [("attach", "0.3"), ("attach", "1.2"), ("detach", "0.3"), ("detach", "1.2")]
    {
        let has_it = attached(host).contains_key(GPU);
        if has_it != (verb == "detach") {
            host.sh(&format!(
                "handover instance {} dev {GPU}",
                if has_it { "detach" } else { "attach" }
            ));
        }
        host.sh(&format!("handover instance {verb} dev {GPU} >/dev/null 2>&1 & sleep {pause}"));
        host.kill_daemon();
        host.serve("PATH=/tmp/older:$PATH");
        let is_in = attached(host).contains_key(GPU);
        let in_guest = guest(host, "cat /proc/bus/pci/devices").contains("10de2204");
        let drivers = host.drivers(&[GPU, AUDIO]);
        if is_in {
            assert!(
                drivers.values().all(|driver| driver == "vfio-pci"),
                "{verb} {pause}: {drivers:?}"
            );
        } else {
            assert!(
                drivers.iter().all(|(at, driver)| before[at] == *driver),
                "{verb} {pause}: {drivers:?}"
            );
            assert!(!in_guest, "{verb} {pause}: it is in the guest");
        }
    }
    if attached(host).contains_key(GPU) {
        host.sh(&format!("handover instance detach dev {GPU}"));
    }
}
