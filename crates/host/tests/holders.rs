//! The users of devices, on a fake host and on this one.
#![allow(clippy::unwrap_used)]

mod fake;

use fake::Fake;
use host::LinuxHost;
use model::{Address, Host};

/// Every holder as `function by user`.
fn holders(fake: &Fake, addresses: &[&str]) -> Vec<String> {
    let addresses: Vec<Address> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let holders = LinuxHost::reader(fake.root()).unwrap().holders(&addresses).unwrap();
    holders.iter().map(|h| format!("{} {}: {}", h.address, h.by, h.user)).collect()
}

fn process(fake: &Fake, pid: u32, name: &str, cgroup: &str) {
    fake.file(&format!("proc/{pid}/comm"), format!("{name}\n"));
    fake.file(&format!("proc/{pid}/cgroup"), format!("0::{cgroup}\n"));
    fake.file(&format!("proc/{pid}/maps"), "");
}

#[test]
fn processes_with_open_or_mapped_nodes_hold_the_gpu() {
    let fake = Fake::new();
    let (gpu, audio, other) = ("0000:01:00.0", "0000:01:00.1", "0000:02:00.0");
    fake.function("0000:00:01.0", "8086:1901", "060400").driver("pcieport").group(1);
    fake.function("0000:00:01.0/0000:01:00.0", "10de:20b0", "030200")
        .group(2)
        .driver("nvidia")
        .node("drm/card1", "char", "226:1");
    fake.function("0000:00:01.0/0000:01:00.1", "10de:1aef", "040300")
        .group(2)
        .node("sound/card0/pcmC0D3p", "char", "116:2")
        .node("sound/card0/input5/event5", "char", "13:69");
    fake.function("0000:02:00.0", "10de:20b0", "030200").group(3).driver("nvidia");
    for (function, minor) in [(gpu, 1), (other, 0)] {
        fake.file(
            &format!("proc/driver/nvidia/gpus/{function}/information"),
            format!("Model: \t A100\nDevice Minor: \t {minor}\n"),
        );
    }
    process(&fake, 10, "systemd-logind", "/system.slice/systemd-logind.service");
    fake.link("proc/10/fd/3", "/dev/input/event5").link("proc/10/fd/4", "socket:[77]");
    process(&fake, 11, "python3", "/user.slice/user-1000.slice/session-2.scope");
    fake.link("proc/11/fd/3", "/dev/nvidia1").link("proc/11/fd/4", "/dev/nvidia1");
    process(&fake, 12, "Xorg", "/");
    fake.file(
        "proc/12/maps",
        "7f00-7f01 rw-s 0 00:06 5 /dev/nvidia1\n7f02-7f03 r--p 0 08:01 9 /lib/x\n",
    );
    fake.link("proc/12/fd/9", "/dev/dri/card1");
    process(
        &fake,
        13,
        "pipewire",
        "/user.slice/user-1000.slice/user@1000.service/pipewire.service",
    );
    fake.link("proc/13/fd/9", "/dev/snd/pcmC0D3p");
    process(&fake, 14, "other", "/");
    fake.link("proc/14/fd/9", "/dev/nvidia0");
    assert_eq!(
        holders(&fake, &[gpu, audio]),
        [
            "0000:01:00.0 /dev/nvidia1: python3 (pid 11, session-2.scope of user 1000)",
            "0000:01:00.0 /dev/dri/card1: Xorg (pid 12)",
            "0000:01:00.0 /dev/nvidia1: Xorg (pid 12)",
            "0000:01:00.1 /dev/snd/pcmC0D3p: pipewire (pid 13, pipewire.service of user 1000)",
        ]
    );
    assert_eq!(holders(&fake, &["0000:00:01.0"]), [""; 0]);
}

#[test]
fn a_parent_is_held_by_who_has_one_of_its_mediated_devices() {
    let fake = Fake::new();
    let gpu = "0000:01:00.0";
    fake.function("0000:01:00.0", "10de:20b0", "030200").group(2).driver("nvidia");
    let (one, two) =
        ("4b20d080-1b54-4048-85b3-a6a62d165c01", "4b20d080-1b54-4048-85b3-a6a62d165c02");
    for (uuid, group) in [(one, 40), (two, 41)] {
        let mdev = format!("sys/devices/pci0000:00/0000:01:00.0/{uuid}");
        fake.link(
            &format!("sys/bus/mdev/devices/{uuid}"),
            &format!("../../../devices/pci0000:00/0000:01:00.0/{uuid}"),
        );
        fake.link(
            &format!("{mdev}/iommu_group"),
            &format!("../../../../kernel/iommu_groups/{group}"),
        );
        fake.virtual_device(&format!("virtual/vfio/{group}"), "char", &format!("241:{group}"));
    }
    process(&fake, 20, "qemu-system-x86", "/");
    fake.link("proc/20/fd/9", "/dev/vfio/41");
    let found = LinuxHost::reader(fake.root()).unwrap().holders(&[gpu.parse().unwrap()]).unwrap();
    let found: Vec<_> = found.iter().map(|h| (h.pid, h.by.as_str(), h.mdev)).collect();
    assert_eq!(found, [(Some(20), "/dev/vfio/41", Some(two.parse().unwrap()))]);
}

#[test]
fn a_function_on_vfio_is_held_by_the_machine_that_has_its_group() {
    let fake = Fake::new();
    let nic = fake.function("0000:00:02.0", "8086:10d3", "020000");
    nic.group(12).driver("vfio-pci").node("vfio-dev/vfio0", "char", "511:0");
    fake.virtual_device("virtual/vfio/12", "char", "241:3");
    process(&fake, 20, "qemu-system-x86", "/machine.slice/machine-qemu.scope");
    fake.link("proc/20/fd/30", "/dev/vfio/12");
    process(&fake, 21, "cloud-hyperviso", "/");
    fake.link("proc/21/fd/30", "/dev/vfio/devices/vfio0");
    assert_eq!(
        holders(&fake, &["0000:00:02.0"]),
        [
            "0000:00:02.0 /dev/vfio/12: qemu-system-x86 (pid 20, machine-qemu.scope)",
            "0000:00:02.0 /dev/vfio/devices/vfio0: cloud-hyperviso (pid 21)",
        ]
    );
}

#[test]
fn a_disk_is_held_by_mounts_swap_and_what_is_built_on_it() {
    let fake = Fake::new();
    let nvme = "0000:00:03.0";
    let drive = fake.function(nvme, "1b36:0010", "010802");
    drive.group(3).driver("nvme").node("nvme/nvme0", "char", "240:0");
    drive.disk("nvme/nvme0/nvme0n1", "259:0");
    for part in 1..=4 {
        drive.disk(&format!("nvme/nvme0/nvme0n1/nvme0n1p{part}"), &format!("259:{part}"));
    }
    // A second namespace, with several paths: its head is elsewhere in sysfs.
    drive.hidden("nvme/nvme0/nvme0c0n2");
    fake.virtual_device("virtual/nvme-subsystem/nvme-subsys0/nvme0n2", "block", "259:9");
    let p4 = format!("sys/bus/pci/devices/{nvme}/nvme/nvme0/nvme0n1/nvme0n1p4");
    fake.link(&format!("{p4}/holders/dm-0"), "/sys/devices/virtual/block/dm-0");
    fake.file("sys/class/block/dm-0/dm/name", "vg0-root\n");
    fake.file(
        "proc/self/mountinfo",
        "22 1 259:1 / /boot\\040efi rw - vfat /dev/nvme0n1p1 rw\n\
         23 1 0:31 / /data rw shared:1 - btrfs /dev/nvme0n1p2 rw\n\
         24 1 259:9 / /second rw - ext4 /dev/nvme0n2 rw\n\
         25 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n",
    );
    fake.file("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p3 partition 1 0 -2\n");
    let mut found = holders(&fake, &[nvme]);
    found.sort();
    assert_eq!(
        found,
        [
            "0000:00:03.0 /dev/nvme0n1p1: mounted at /boot efi",
            "0000:00:03.0 /dev/nvme0n1p2: mounted at /data",
            "0000:00:03.0 /dev/nvme0n1p3: swap space",
            "0000:00:03.0 /dev/nvme0n1p4: part of vg0-root (dm-0, device mapper)",
            "0000:00:03.0 /dev/nvme0n2: mounted at /second",
        ]
    );
}

#[test]
fn a_share_of_the_host_around_is_held_by_its_mounts() {
    let fake = Fake::new();
    for (slot, driver, virtio) in [
        ("02", "9pnet_virtio", "virtio2"),
        ("03", "virtiofs", "virtio3"),
        ("04", "virtiofs", "virtio4"),
    ] {
        let device = fake.function(&format!("0000:00:{slot}.0"), "1af4:1009", "000200");
        device.with(&format!("{virtio}/status"), "0x0000000f\n");
        let target = format!("../../../../devices/pci0000:00/0000:00:{slot}.0/{virtio}");
        fake.link(&format!("sys/bus/virtio/drivers/{driver}/{virtio}"), &target);
    }
    fake.file("sys/bus/virtio/devices/virtio2/mount_tag", "share\0");
    fake.file("sys/fs/virtiofs/1/tag", "home\n");
    fake.link("sys/fs/virtiofs/1/device", "../../../devices/pci0000:00/0000:00:03.0/virtio3");
    for (process, namespace) in [("self", 1), ("7", 1), ("8", 2), ("9", 2)] {
        fake.link(&format!("proc/{process}/ns/mnt"), &format!("mnt:[{namespace}]"));
    }
    fake.file("proc/8/mountinfo", "31 1 0:31 / /box rw - 9p share rw,trans=virtio\n");
    fake.file(
        "proc/self/mountinfo",
        "22 1 0:31 / /host rw - 9p share rw,trans=virtio\n\
         23 1 0:32 / /other rw - 9p another rw,trans=virtio\n\
         24 1 0:33 / /home rw shared:1 - virtiofs home rw\nnonsense - 9p\n",
    );
    assert_eq!(
        holders(&fake, &["0000:00:02.0", "0000:00:03.0", "0000:00:04.0"]),
        [
            "0000:00:02.0 9p share share: mounted at /host",
            // In a container only.
            "0000:00:02.0 9p share share: mounted at /box",
            "0000:00:03.0 virtiofs share home: mounted at /home",
            // A kernel that does not show this one's tag.
            "0000:00:04.0 virtiofs share home: mounted at /home",
        ]
    );
}

#[test]
fn a_nic_is_held_by_the_default_route_also_over_a_bridge() {
    let fake = Fake::new();
    for (slot, interface) in [("02", "eth0"), ("03", "eth1"), ("04", "eth2")] {
        let entry = fake.function(&format!("0000:00:{slot}.0"), "8086:10d3", "020000");
        entry.interface(&format!("net/{interface}"));
    }
    fake.link("sys/class/net/eth0/upper_bond0", "../bond0");
    fake.link("sys/class/net/bond0/upper_br0", "../br0");
    fake.file(
        "proc/net/route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
         br0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n\
         eth2\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n",
    );
    let any = "0".repeat(32);
    fake.file("proc/net/ipv6_route", format!("{any} 00 {any} 00 fe80 1 0 0 00450003     eth1\n"));
    assert_eq!(
        holders(&fake, &["0000:00:02.0", "0000:00:03.0", "0000:00:04.0"]),
        [
            "0000:00:02.0 eth0: the host's default route, over br0",
            "0000:00:02.0 eth0: lower interface of bond0",
            "0000:00:03.0 eth1: the host's default route",
            "0000:00:04.0 eth2: route 10.0.0.0/24",
        ]
    );
}

#[test]
fn the_running_host_can_be_asked() {
    let host = LinuxHost::reader(std::path::Path::new("/")).unwrap();
    let Ok(inventory) = host.inventory() else { return };
    let all: Vec<Address> = inventory.functions.keys().copied().collect();
    // On any machine it must end, and report only requested functions.
    for holder in host.holders(&all).unwrap() {
        assert!(all.contains(&holder.address), "{holder:?}");
    }
}
