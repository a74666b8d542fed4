//! Checks of a device's capabilities: resets, links, memory, partitions, fabrics.

use super::{CARD, GPU, Host, at, bar, card, virtual_functions};
use crate::doctor::{IommuDevice, Module, Severity};
use crate::{Mdev, MdevType, PortType, Power, ResizableBar, VgpuType, VgpuTypes};

use Severity::{Good, Impossible, Note, Warning};

fn resets(methods: &[&str]) -> Vec<String> {
    methods.iter().map(ToString::to_string).collect()
}

#[test]
fn a_device_without_a_reset_is_for_one_machine() {
    let none = card().with(GPU, |gpu| (gpu.reset_methods, gpu.resettable) = (Vec::new(), false));
    assert_eq!(none.worst("reset", GPU), Some(Warning));
    let old = card().with(GPU, |gpu| gpu.reset_methods.clear());
    assert_eq!(old.worst("reset", GPU), Some(Note), "before Linux 5.15 the kernel does not tell");
    assert_eq!(card().worst("reset", GPU), Some(Good));
    let off = card().with(GPU, |gpu| {
        gpu.reset_methods.clear();
        gpu.resets_off = true;
    });
    let finding = off.one("reset", GPU);
    assert!(finding.read.contains("switched off"), "{}", finding.read);
    assert!(finding.remedy.unwrap().commands[0].starts_with("echo default > "));
}

#[test]
fn a_bus_reset_must_hit_nothing_outside_of_the_assembly() {
    let bus = |host: Host| host.with(GPU, |gpu| gpu.reset_methods = resets(&["bus"]));
    assert_eq!(
        bus(card()).worst("reset", GPU),
        Some(Good),
        "the audio function belongs to the card"
    );
    let mut lines = CARD.to_vec();
    lines.push("0000:01:01.0 8086:1521 020000 14 igb below 0000:00:01.0");
    let finding = bus(Host::new(&lines)).one("reset", GPU);
    assert_eq!(finding.severity, Warning);
    assert_eq!(
        finding.read,
        "0000:01:00.0 can be reset only together with all devices below 0000:00:01.0: also 0000:01:01.0"
    );
}

#[test]
fn known_reset_bugs_are_reported_with_their_source() {
    let radeon = |methods: &[&str]| {
        Host::new(&["0000:01:00.0 1002:67df 030000 12 amdgpu"])
            .with(GPU, |gpu| gpu.reset_methods = resets(methods))
    };
    let finding = radeon(&["bus"]).one("reset-bug", GPU);
    assert_eq!(finding.severity, Warning);
    assert!(
        finding.read.contains("Polaris") && finding.meaning.contains("https://"),
        "{finding:?}"
    );
    assert!(finding.remedy.unwrap().words.contains("DKMS"));
    assert_eq!(radeon(&["device_specific", "bus"]).worst("reset-bug", GPU), Some(Good));
    assert_eq!(radeon(&[]).worst("reset-bug", GPU), Some(Warning));

    let module = Module { available: true, ..Module::default() };
    let there = radeon(&["bus"]).on(|p| drop(p.modules.insert("vendor_reset".into(), module)));
    assert_eq!(
        there.one("reset-bug", GPU).remedy.unwrap().commands,
        [
            "modprobe vendor-reset",
            "echo device_specific > /sys/bus/pci/devices/0000:01:00.0/reset_method"
        ]
    );
    assert_eq!(there.worst("reset", GPU), None, "a reset that fails is no good reset");
    let nvidia = Host::new(&["0000:01:00.0 10de:2684 030000 12 nouveau"]);
    assert_eq!(nvidia.worst("reset-bug", GPU), None);
}

#[test]
fn another_reset_method_is_advised_where_there_is_one() {
    let sata = Host::new(&["0000:06:00.0 1022:7901 010601 8 ahci"])
        .with("0000:06:00.0", |sata| sata.reset_methods = resets(&["flr", "pm"]));
    let remedy = sata.one("reset-bug", "0000:06:00.0").remedy.unwrap();
    assert_eq!(remedy.commands, ["echo pm > /sys/bus/pci/devices/0000:06:00.0/reset_method"]);
}

/// A card behind a root port: the card's current and highest link, then the root port's highest.
fn linked(class: &str, now: (u16, u8), card: (u16, u8), port: (u16, u8)) -> Host {
    let line = format!("0000:01:00.0 10de:2684 {class} 12 x below 0000:00:01.0");
    Host::new(&["0000:00:01.0 8086:1901 060400 1 pcieport", &line])
        .port("0000:00:01.0", PortType::RootPort, None)
        .link("0000:00:01.0", now.0, now.1, port.0, port.1)
        .link(GPU, now.0, now.1, card.0, card.1)
}

#[test]
fn a_link_is_measured_against_what_both_ends_can_do() {
    const NVME: &str = "010802";
    const VGA: &str = "030000";
    for (what, host, expected) in [
        ("all lanes", linked(VGA, (160, 16), (160, 16), (160, 16)), Good),
        ("half of the lanes", linked(VGA, (160, 8), (160, 16), (160, 16)), Warning),
        ("a slot with half of the lanes", linked(VGA, (160, 8), (160, 16), (160, 8)), Good),
        ("a slot with a quarter of the lanes", linked(VGA, (160, 4), (160, 16), (160, 4)), Note),
        ("an older root port", linked(VGA, (80, 16), (160, 16), (80, 16)), Good),
        ("an idle GPU", linked(VGA, (25, 16), (160, 16), (160, 16)), Note),
        ("a slow drive", linked(NVME, (25, 4), (80, 4), (160, 4)), Warning),
    ] {
        assert_eq!(
            host.worst("link", GPU),
            Some(expected),
            "{what}: {:#?}",
            host.says("link", GPU)
        );
    }
    let slow = linked(NVME, (25, 4), (80, 4), (160, 4)).one("link", GPU);
    assert_eq!(
        slow.read,
        "the link of 0000:01:00.0 to 0000:00:01.0 runs at 2.5 GT/s; both ends support 8 GT/s"
    );
}

#[test]
fn sleeping_and_missing_links_tell_nothing() {
    let asleep = linked("030000", (25, 4), (160, 16), (160, 16)).with(GPU, |gpu| {
        gpu.power = Power { runtime_status: Some("suspended".into()), ..Power::default() };
    });
    assert_ne!(asleep.worst("link", GPU), Some(Warning));
    assert_eq!(card().worst("link", GPU), None);
}

#[test]
fn a_narrow_link_above_a_cards_own_switch_is_found() {
    let host = Host::new(&[
        "0000:00:01.0 8086:1901 060400 1 pcieport",
        "0000:01:00.0 1002:1478 060400 2 pcieport below 0000:00:01.0",
        "0000:02:00.0 1002:1479 060400 3 pcieport below 0000:00:01.0,0000:01:00.0",
        "0000:03:00.0 1002:744c 030000 4 amdgpu below 0000:00:01.0,0000:01:00.0,0000:02:00.0",
    ])
    .port("0000:00:01.0", PortType::RootPort, None)
    .port("0000:01:00.0", PortType::SwitchUpstream, None)
    .port("0000:02:00.0", PortType::SwitchDownstream, None)
    .link("0000:00:01.0", 160, 8, 160, 16)
    .link("0000:01:00.0", 160, 8, 160, 16)
    .link("0000:02:00.0", 160, 16, 160, 16)
    .link("0000:03:00.0", 160, 16, 160, 16);
    let finding = host.one("link", "0000:03:00.0");
    assert_eq!(finding.severity, Warning);
    assert_eq!(
        finding.read,
        "the link of 0000:01:00.0 to 0000:00:01.0 is x8; both ends support x16"
    );
}

#[test]
fn large_bars_need_a_larger_window_and_wide_addresses() {
    let memory = |size: u64, bits: u8, iommu: Option<u8>| {
        card().with(GPU, |gpu| gpu.bars = vec![bar(1, 0, size), bar(3, 0, 32 << 20)]).on(
            |platform| {
                platform.cpu.physical_bits = Some(bits);
                platform.iommus = vec![IommuDevice { name: "dmar0".into(), address_bits: iommu }];
            },
        )
    };
    assert_eq!(memory(256 << 20, 39, Some(39)).worst("bar-window", GPU), Some(Good));
    let large = memory(128 << 30, 46, Some(48)).one("bar-window", GPU);
    assert_eq!(large.severity, Note);
    assert!(large.meaning.contains("512 GiB"), "{large:?}");
    let words = large.remedy.unwrap().words;
    assert!(
        words.contains("pci-hole64-size=524288M") && words.contains("X-PciMmio64Mb,string=524288")
    );
    let desktop = memory(128 << 30, 46, Some(39)).one("bar-window", GPU);
    assert_eq!(desktop.severity, Warning);
    assert!(desktop.read.contains("the IOMMU translates 39 address bits"), "{desktop:?}");
    assert_eq!(card().worst("bar-window", GPU), None);
}

#[test]
fn a_small_resizable_bar_is_reported_on_request() {
    let sized = |size: u64| {
        let bar = ResizableBar { index: 1, size, largest: 16 << 30 };
        card().detailed(GPU, |detail| detail.resizable_bars = vec![bar])
    };
    assert_eq!(
        sized(256 << 20).one("resizable-bar", GPU).read,
        "BAR 1 is 256 MiB and could be 16 GiB"
    );
    assert_eq!(sized(16 << 30).worst("resizable-bar", GPU), Some(Good));
    assert_eq!(sized(256 << 20).overview("resizable-bar"), []);
}

const NIC: &str = "0000:04:00.0";
const VF: &str = "0000:04:10.0";

fn nic(enabled: u16, present: &[&str]) -> Host {
    let mut lines = vec!["0000:04:00.0 8086:1521 020000 4 igb".to_owned()];
    lines.extend(present.iter().map(|vf| format!("{vf} 8086:1520 020000 5 igbvf")));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let host = Host::new(&lines)
        .with(NIC, |nic| nic.sriov = virtual_functions(7, present))
        .detailed(NIC, |detail| detail.vf_count = Some(enabled));
    present.iter().fold(host, |host, vf| host.with(vf, |vf| vf.physical_function = Some(at(NIC))))
}

#[test]
fn virtual_functions_can_be_made_can_be_missing_and_exclude_the_whole() {
    let none = nic(0, &[]).one("sriov", NIC);
    assert_eq!(none.severity, Note);
    assert_eq!(none.remedy.unwrap().commands, ["handover sriov set 0000:04:00.0 7"]);
    let missing = nic(2, &[VF]).says("sriov", NIC);
    let missing = missing.iter().find(|finding| finding.severity == Warning).unwrap();
    assert_eq!(missing.read, "sriov_numvfs of 0000:04:00.0 is 2; existing virtual functions: 1");
    assert_eq!(nic(1, &[VF]).worst("sriov", NIC), Some(Impossible), "the whole and its parts");
    let told = nic(1, &[VF]).overview("sriov");
    let told: Vec<_> = told.iter().map(|one| one.severity).collect();
    assert_eq!(told, [Note], "a device in parts is meant to be");
    assert_eq!(nic(1, &[VF]).worst("sriov", VF), Some(Good));
    let orphan = nic(1, &[VF]).with(NIC, |nic| nic.driver = None);
    assert_eq!(orphan.worst("sriov", VF), Some(Warning));
    assert_eq!(card().worst("sriov", GPU), None);
}

fn vgpu_host() -> Host {
    Host::new(&[
        "0000:41:00.0 10de:20b5 030200 40 nvidia",
        "0000:41:00.4 10de:20b5 030200 41 nvidia",
        "0000:41:00.5 10de:20b5 030200 42 nvidia",
    ])
    .with("0000:41:00.0", |gpu| {
        gpu.sriov = virtual_functions(16, &["0000:41:00.4", "0000:41:00.5"])
    })
    .with("0000:41:00.4", |vf| vf.physical_function = Some(at("0000:41:00.0")))
    .with("0000:41:00.5", |vf| vf.physical_function = Some(at("0000:41:00.0")))
    .detailed("0000:41:00.4", |detail| {
        detail.vgpu = Some(VgpuTypes { current: Some(695), creatable: Vec::new() });
    })
    .detailed("0000:41:00.5", |detail| {
        let creatable = vec![VgpuType { id: 695, name: "NVIDIA A100-4C".into() }];
        detail.vgpu = Some(VgpuTypes { current: None, creatable });
    })
}

#[test]
fn the_mechanism_is_reported_for_each_virtual_function() {
    let whole = vgpu_host().one("vgpu", "0000:41:00.0");
    assert_eq!(
        (whole.severity, whole.read.as_str()),
        (
            Good,
            "0000:41:00.0 has 2 virtual functions: 2 with NVIDIA's vendor-specific VFIO (1 in use as vGPUs)"
        )
    );
    let part = vgpu_host().one("vgpu", "0000:41:00.4");
    assert!(part.severity == Good && part.read.ends_with("is 695"), "{part:?}");

    let bare = vgpu_host().detailed("0000:41:00.5", |detail| detail.vgpu = None);
    assert_eq!(bare.worst("vgpu", "0000:41:00.5"), Some(Warning));
    assert_eq!(bare.worst("vgpu", "0000:41:00.0"), Some(Warning));
    let module = Module { available: true, ..Module::default() };
    let unloaded = bare.on(|p| drop(p.modules.insert("nvidia_vgpu_vfio".into(), module)));
    let remedy = unloaded.one("vgpu", "0000:41:00.5").remedy.unwrap();
    assert_eq!(remedy.commands[0], "modprobe nvidia-vgpu-vfio");

    let full =
        vgpu_host().detailed("0000:41:00.5", |detail| detail.vgpu = Some(VgpuTypes::default()));
    assert_eq!(full.worst("vgpu", "0000:41:00.5"), Some(Warning));
}

#[test]
fn mediated_devices_exclude_the_whole() {
    let offers = card().detailed(GPU, |detail| {
        let id = "nvidia-474".into();
        detail.mdev_types = vec![MdevType {
            id,
            name: None,
            available: Some(4),
            device_api: None,
            description: None,
        }];
    });
    assert_eq!(offers.worst("vgpu", GPU), Some(Good));
    let used = offers.with(GPU, |gpu| {
        gpu.mdevs = vec![Mdev { uuid: uuid::Uuid::nil(), type_id: None, iommu_group: None }];
    });
    assert_eq!(used.worst("vgpu", GPU), Some(Impossible));
    assert_eq!(card().worst("vgpu", GPU), None);
}

#[test]
fn gpus_on_nvswitch_go_in_partitions() {
    let board = |group: u32| {
        let switch = format!("0000:05:00.0 10de:22a3 068000 {group} -");
        Host::new(&["0000:06:00.0 10de:2330 030200 6 nvidia", &switch])
    };
    assert_eq!(board(5).worst("fabric", "0000:06:00.0"), Some(Note));
    let together = board(6).one("fabric", "0000:06:00.0");
    assert_eq!(together.severity, Warning);
    assert!(together.read.contains("0000:05:00.0"), "{together:?}");
    assert_eq!(board(5).overview("fabric").len(), 1);
    assert_eq!(card().worst("fabric", GPU), None);
    assert_eq!(card().overview("fabric"), []);
}

#[test]
fn sxm_boards_without_visible_switches_are_reported() {
    let sxm = |lines: &[&str]| {
        Host::new(lines)
            .with("0000:06:00.0", |gpu| gpu.device_name = Some("GA100 [A100 SXM4 40GB]".into()))
    };
    let two = ["0000:06:00.0 10de:20b0 030200 6 nvidia", "0000:07:00.0 10de:20b0 030200 7 nvidia"];
    assert_eq!(sxm(&two).worst("fabric", "0000:06:00.0"), Some(Note));
    assert_eq!(sxm(&two[..1]).worst("fabric", "0000:06:00.0"), None);
}
