//! Checks of obstacles of one device.

use super::{CARD, GPU, Host, ISOLATING, at, bar, card};
use crate::doctor::{BootLoader, Framebuffer, Module, Severity, X11File};
use crate::{Acs, ClaimState, PortType, Power};

use Severity::{Good, Impossible, Note, Unseen, Warning};

#[test]
fn a_group_is_shared_because_of_the_root_port_without_acs() {
    let shared = |acs: Option<Acs>| {
        Host::new(&[
            "0000:00:1c.0 8086:a110 060400 5 pcieport",
            "0000:02:00.0 144d:a808 010802 5 nvme below 0000:00:1c.0",
            "0000:00:1c.4 8086:a114 060400 5 pcieport",
            "0000:03:00.0 8086:1521 020000 5 igb below 0000:00:1c.4",
        ])
        .port("0000:00:1c.0", PortType::RootPort, acs)
        .port("0000:00:1c.4", PortType::RootPort, Some(ISOLATING))
    };
    let finding = shared(None).one("group-isolation", "0000:03:00.0");
    assert_eq!(finding.severity, Warning);
    assert_eq!(finding.read, "IOMMU group 5 is shared with 0000:02:00.0 (nvme on nvme)");
    assert!(finding.meaning.ends_with("cause: root port 0000:00:1c.0 has no ACS"), "{finding:?}");
    assert!(finding.remedy.unwrap().words.contains("handover topo"));

    let off =
        shared(Some(Acs { supported: 0x1d, enabled: 0 })).one("group-isolation", "0000:03:00.0");
    assert!(off.meaning.contains("has ACS, but it is disabled"), "{off:?}");
    let part =
        shared(Some(Acs { supported: 0x0f, enabled: 0x0f })).one("group-isolation", "0000:03:00.0");
    assert!(part.meaning.contains("only a part of ACS"), "{part:?}");
}

#[test]
fn a_group_of_its_own_is_good_also_with_the_cards_own_functions_in_it() {
    let finding = card().one("group-isolation", GPU);
    assert_eq!(
        (finding.severity, finding.read.as_str()),
        (Good, "IOMMU group 12 has no other device")
    );
}

#[test]
fn functions_of_one_device_and_unread_bridges_are_reasons_too() {
    let nic = Host::new(&[
        "0000:04:00.0 8086:1521 020000 7 igb below 0000:00:02.0",
        "0000:04:00.1 8086:1521 020000 7 igb below 0000:00:02.0",
    ]);
    let finding = nic.one("group-isolation", "0000:04:00.0");
    assert!(finding.meaning.contains("functions of one device"), "{finding:?}");

    let unread = Host::new(&[
        "0000:00:02.0 8086:1905 060400 7 pcieport",
        "0000:04:00.0 8086:1521 020000 7 igb below 0000:00:02.0",
        "0000:05:00.0 144d:a808 010802 7 nvme below 0000:00:02.0",
    ]);
    let finding = unread.one("group-isolation", "0000:04:00.0");
    assert!(finding.meaning.contains("run the doctor as root"), "{finding:?}");
}

#[test]
fn devices_that_the_host_needs_are_refused() {
    let chipset = Host::new(&[
        "0000:00:1f.0 8086:a305 060100 9 lpc_ich",
        "0000:00:1f.6 8086:15bb 020000 9 e1000e",
    ]);
    let finding = chipset.one("assignable", "0000:00:1f.6");
    assert_eq!(finding.severity, Impossible);
    assert!(finding.read.contains("0000:00:1f.0, a bridge of the host (on"), "{finding:?}");
    assert_eq!(card().worst("assignable", GPU), Some(Good));
    assert_eq!(card().worst("assignable", "0000:09:00.0"), Some(Impossible), "there is nothing");
    // An overview only says why.
    let why: Vec<_> = chipset.overview("assignable").iter().map(|one| one.severity).collect();
    assert_eq!(why, [Note]);
    assert_eq!(chipset.overview("group-isolation"), []);
    let words = chipset.one("group-isolation", "0000:00:1f.6").remedy.unwrap().words;
    assert!(words.contains("hand over another device"), "{words}");
}

#[test]
fn a_bridge_is_examined_for_nothing_else() {
    let findings = card().examine(Some("0000:00:01.0"));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((findings[0].check.as_str(), findings[0].severity), ("assignable", Impossible));
}

#[test]
fn a_missing_iommu_is_not_repeated_for_each_device() {
    let mut host = card();
    host.inventory.vfio = crate::VfioSupport::default();
    assert_eq!(host.worst("assignable", GPU), Some(Good));
    let left_out = card().with(GPU, |gpu| gpu.iommu_group = None);
    assert_eq!(left_out.worst("assignable", GPU), Some(Impossible), "this one is the device's own");
}

#[test]
fn the_hosts_console_runs_on_the_gpu() {
    let console = card().with(GPU, |gpu| gpu.boot_vga = true);
    let only = console.one("boot-vga", GPU);
    assert_eq!(only.severity, Note);
    assert!(only.meaning.contains("only display") && only.remedy.unwrap().words.contains("ssh"));

    let mut lines = CARD.to_vec();
    lines.push("0000:00:02.0 8086:3e98 030000 2 i915");
    let two = Host::new(&lines).with(GPU, |gpu| gpu.boot_vga = true).one("boot-vga", GPU);
    assert!(two.remedy.unwrap().words.contains("choose another GPU"), "{:?}", two.meaning);
    assert_eq!(card().worst("boot-vga", GPU), Some(Good));
}

fn with_framebuffer(name: &str, start: u64) -> Host {
    let end = start + 0x2f_ffff;
    card()
        .with(GPU, |gpu| {
            gpu.bars = vec![bar(0, 0xd000_0000, 1 << 24), bar(1, 0xc000_0000, 1 << 28)]
        })
        .on(|platform| platform.framebuffers = vec![Framebuffer { name: name.into(), start, end }])
}

#[test]
fn a_framebuffer_on_a_bar_stops_the_hand_over_later() {
    let kernel = |version: &str| {
        with_framebuffer("BOOTFB", 0xc000_0000)
            .on(|platform| platform.kernel = Some(version.into()))
    };
    let finding = kernel("5.10.0-33-amd64").one("boot-framebuffer", GPU);
    assert_eq!(finding.severity, Impossible);
    assert_eq!(
        finding.read,
        "BOOTFB at 0xc0000000-0xc02fffff (/proc/iomem) lies on BAR 1 of 0000:01:00.0"
    );
    assert_eq!(
        kernel("6.12.48").worst("boot-framebuffer", GPU),
        Some(Warning),
        "vfio-pci sends it away"
    );
    let other_class = kernel("6.18.1").with(GPU, |gpu| gpu.class = "038000".parse().unwrap());
    assert_eq!(
        other_class.worst("boot-framebuffer", GPU),
        Some(Impossible),
        "not from other displays"
    );
    assert_eq!(with_framebuffer("BOOTFB", 0xe000_0000).worst("boot-framebuffer", GPU), Some(Good));
    assert_eq!(card().worst("boot-framebuffer", GPU), None, "without root, addresses are hidden");
}

#[test]
fn the_remedy_for_a_framebuffer_depends_on_the_kernel_and_on_what_was_tried() {
    for (kernel, name, option) in [
        ("6.12.48", "BOOTFB", "initcall_blacklist=sysfb_init"),
        ("5.15.0", "efifb", "initcall_blacklist=sysfb_init"),
        ("5.10.0", "efifb", "video=efifb:off"),
        ("5.10.0", "vesafb", "initcall_blacklist=sysfb_init"),
    ] {
        let host = with_framebuffer(name, 0xc000_0000)
            .on(|platform| platform.kernel = Some(kernel.into()));
        let words = host.one("boot-framebuffer", GPU).remedy.unwrap().words;
        assert!(words.contains(option), "{kernel} {name}: {words}");
        let tried = host.on(|platform| platform.cmdline = Some(format!("quiet {option}")));
        let words = tried.one("boot-framebuffer", GPU).remedy.unwrap().words;
        assert!(words.contains("has no effect"), "{words}");
    }
}

#[test]
fn each_holder_is_named_with_what_to_stop() {
    for (user, by, check, words, commands) in [
        (
            "qemu-system-x86 (pid 7, machine-qemu.scope)",
            "/dev/vfio/12",
            "holder",
            "shut down the machine",
            &[][..],
        ),
        (
            "ollama (pid 7, ollama.service)",
            "/dev/nvidia0",
            "holder",
            "ollama.service",
            &["systemctl stop 'ollama.service'"],
        ),
        (
            "gnome-shell (pid 7, user@1000.service)",
            "/dev/dri/card0",
            "display-server",
            "display-manager",
            &[],
        ),
        ("Xorg (pid 7, lightdm.service)", "/dev/dri/card0", "display-server", "boot list", &[]),
        ("gnome-remote-de (pid 7)", "/dev/dri/renderD128", "remote-desktop", "kill 7", &[]),
        (
            "nvidia-persiste (pid 7, nvidia-persistenced.service)",
            "/dev/nvidia0",
            "nvidia-persistenced",
            "this GPU only",
            &["nvidia-smi -i 0000:01:00.0 -pm 0"],
        ),
        (
            "nv-hostengine (pid 7, nvidia-dcgm.service)",
            "/dev/nvidia0",
            "dcgm",
            "monitor",
            &["systemctl stop 'nvidia-dcgm.service'"],
        ),
    ] {
        let finding = card().held(GPU, 7, user, by).one(check, GPU);
        assert_eq!(finding.severity, Impossible, "{user}");
        assert_eq!(finding.read, format!("{GPU} is used by {user} ({by})"));
        let remedy = finding.remedy.unwrap();
        assert!(remedy.words.contains(words), "{user}: {}", remedy.words);
        assert_eq!(remedy.commands, commands, "{user}");
    }
    assert_eq!(card().worst("holder", GPU), Some(Good));
}

#[test]
fn a_unit_with_a_hostile_name_becomes_no_command() {
    let user = "x (pid 7, a';reboot;'.service)";
    let finding = card().held(GPU, 7, user, "/dev/dri/card0").one("holder", GPU);
    assert_eq!(finding.remedy.unwrap().commands, Vec::<String>::new());
}

#[test]
fn mounts_and_routes_are_holders_without_commands() {
    let host =
        Host::new(&["0000:02:00.0 144d:a808 010802 3 nvme", "0000:03:00.0 8086:1521 020000 4 igb"]);
    for (address, user, words) in [
        ("0000:02:00.0", "mounted at /srv", "umount /srv"),
        ("0000:02:00.0", "mounted at /", "the host itself runs from"),
        ("0000:02:00.0", "part of the RAID md0", "remove it from"),
        ("0000:03:00.0", "the host's default route", "another interface"),
    ] {
        let held = host.clone().held(address, 0, user, "it");
        let finding = held.one("holder", address);
        let remedy = finding.remedy.unwrap();
        assert!(
            remedy.words.contains(words) && remedy.commands.is_empty(),
            "{user}: {}",
            remedy.words
        );
        let told = held.overview("holder");
        let [told] = &told[..] else { panic!("{user}: {told:?}") };
        assert_eq!((told.severity, &told.remedy), (Note, &None), "they are as they should be");
    }
}

#[test]
fn a_native_driver_is_kept_off_by_address_from_the_next_boot_on() {
    let finding = card().one("native-driver", GPU);
    assert_eq!(finding.severity, Note);
    assert_eq!(finding.read, "0000:01:00.0 is on nouveau and 0000:01:00.1 is on snd_hda_intel");
    let remedy = finding.remedy.unwrap();
    assert!(remedy.words.contains("0000:01:00.0, 0000:01:00.1"), "{}", remedy.words);
    assert_eq!(remedy.commands, ["handover boot-list 0000:01:00.0 --rebuild"]);
    assert!(remedy.reboot);

    let free = Host::new(&["0000:01:00.0 10de:2684 030000 12 vfio-pci"]);
    assert_eq!(free.worst("native-driver", GPU), Some(Good));
}

#[test]
fn the_x_servers_configuration_for_the_card_is_moved_aside() {
    let file = |path: &str, drivers: &[&str], cards: &[&str]| X11File {
        path: path.into(),
        drivers: drivers.iter().map(|&driver| driver.into()).collect(),
        cards: cards.iter().map(|card| at(card)).collect(),
    };
    let pinned = file("/usr/share/X11/xorg.conf.d/10-nvidia.conf", &["nvidia", "nvidia-drm"], &[]);
    let with = |host: Host, file: &X11File| host.on(|platform| platform.x11.push(file.clone()));
    assert_eq!(card().worst("x11-config", GPU), None);
    let finding = with(card(), &pinned).one("x11-config", GPU);
    assert_eq!(finding.severity, Note);
    let commands = |finding: &crate::doctor::Finding| finding.remedy.clone().unwrap().commands;
    assert!(commands(&finding)[0].contains("mv -f /usr/share/X11"), "{finding:?}");
    let debian = with(card(), &pinned).on(|p| p.distribution = Some("debian 13".into()));
    assert!(
        commands(&debian.one("x11-config", GPU))[0].starts_with("dpkg-divert --local --rename")
    );
    let drawn =
        with(card(), &pinned).held(GPU, 812, "Xorg (pid 812, gdm.service)", "/dev/dri/card0");
    assert_eq!(drawn.worst("x11-config", GPU), Some(Warning));
    // A second card of the vendor needs the file.
    let second = "0000:03:00.0 10de:2684 030000 14 nvidia";
    let two = || Host::new(&[CARD[0], CARD[1], CARD[2], second]);
    assert_eq!(commands(&with(two(), &pinned).one("x11-config", GPU)), Vec::<String>::new());
    let own = file("/etc/X11/xorg.conf.d/20-gpu.conf", &["nvidia"], &[GPU]);
    assert!(!commands(&with(two(), &own).one("x11-config", GPU)).is_empty());
    assert_eq!(with(two(), &own).worst("x11-config", "0000:03:00.0"), None);
    let whole = file("/etc/X11/xorg.conf", &["nvidia"], &[GPU]);
    assert_eq!(commands(&with(card(), &whole).one("x11-config", GPU)), Vec::<String>::new());
    let others = file("/etc/X11/xorg.conf.d/amd.conf", &["amdgpu"], &[]);
    assert_eq!(with(card(), &others).worst("x11-config", GPU), None);
}

#[test]
fn nouveau_is_kept_off_the_only_card_of_its_kind() {
    let grub = |host: Host| host.on(|platform| platform.boot_loader = BootLoader::GrubDebian);
    let remedy = grub(card()).one("nouveau", GPU).remedy.unwrap();
    assert!(remedy.commands[1..].iter().any(|one| one == "update-grub"), "{remedy:?}");
    assert!(remedy.commands[0].contains("nouveau.modeset=0"), "{remedy:?}");
    let set = grub(card()).on(|p| p.cmdline = Some("nouveau.modeset=0".into()));
    assert_eq!(set.one("nouveau", GPU).remedy.unwrap().commands, Vec::<String>::new());
    let two = Host::new(&[CARD[0], CARD[1], CARD[2], "0000:03:00.0 10de:2684 030000 14 nouveau"]);
    assert_eq!(two.worst("nouveau", GPU), None);
    let other = Host::new(&["0000:01:00.0 10de:2684 030000 12 nvidia"]);
    assert_eq!(other.worst("nouveau", GPU), None);
}

#[test]
fn devices_that_the_host_needs_are_never_put_on_the_boot_list() {
    let host = Host::new(&[
        "0000:04:00.0 1002:67df 030000 15 amdgpu",
        "0000:07:00.0 c0a9:540a 010802 15 nvme",
    ]);
    let reserve = |host: &Host| host.one("native-driver", "0000:04:00.0").remedy.unwrap();
    assert!(!reserve(&host).commands.is_empty());
    let root = host.held("0000:07:00.0", 0, "mounted at /", "/dev/nvme0n1p2");
    assert_eq!(reserve(&root).commands, Vec::<String>::new());
    assert!(reserve(&root).words.contains("0000:07:00.0"), "{:?}", reserve(&root));
}

#[test]
fn a_device_in_parts_stays_on_the_driver_that_splits_it() {
    let split = card().with(GPU, |gpu| gpu.sriov = super::virtual_functions(4, &["0000:01:00.4"]));
    assert_eq!(split.worst("native-driver", GPU), None);
}

#[test]
fn settings_of_another_tool_are_reported() {
    let over = |driver: &str, set: Option<&str>| {
        let line = format!("0000:01:00.0 10de:2684 030000 12 {driver}");
        let set = set.map(String::from);
        Host::new(&[&line]).detailed(GPU, |detail| detail.driver_override = set)
    };
    assert_eq!(over("nouveau", None).worst("driver-override", GPU), None);
    assert_eq!(over("vfio-pci", Some("vfio-pci")).worst("driver-override", GPU), Some(Note));
    assert_eq!(over("nouveau", Some("nouveau")).worst("driver-override", GPU), Some(Warning));
    assert!(over("pci-stub", None).one("driver-override", GPU).read.contains("pci-stub"));
    let by_id =
        over("vfio-pci", None).on(|p| p.cmdline = Some("quiet vfio-pci.ids=10DE:2684,1:2".into()));
    let own = |driver, state, before| {
        over(driver, Some("vfio-pci")).claimed(GPU, state, before).one("driver-override", GPU)
    };
    let claimed = own("vfio-pci", ClaimState::Prepared, Some("nouveau"));
    assert_eq!(claimed.severity, Good, "{claimed:?}");
    assert!(claimed.read.contains("by the claim of job/7"), "{claimed:?}");
    assert!(claimed.meaning.contains("returns it to nouveau"), "{claimed:?}");
    let wedged = own("vfio-pci", ClaimState::Wedged, Some("nouveau"));
    assert_eq!(wedged.severity, Warning, "{wedged:?}");
    assert!(!wedged.meaning.contains("another tool"), "{wedged:?}");
    // What was on vfio before the claim stays another tool's.
    let before = own("vfio-pci", ClaimState::Prepared, Some("vfio-pci"));
    assert!(before.meaning.contains("driverctl"), "{before:?}");
    let reserved = own("vfio-pci", ClaimState::Reserved, None);
    assert!(reserved.meaning.contains("driverctl"), "a reserved claim changes nothing");
    let finding = by_id.one("driver-override", GPU);
    assert!(finding.meaning.contains("every device with this id") && finding.remedy.is_some());
}

#[test]
fn a_variant_of_vfio_is_used_unless_the_device_is_on_the_plain_one() {
    let nic = |driver: &str| {
        let line = format!("0000:03:00.2 15b3:101e 020000 4 {driver}");
        Host::new(&[&line]).with("0000:03:00.2", |vf| vf.vfio_driver = "mlx5-vfio-pci".into())
    };
    let plain = nic("vfio-pci").one("vfio-variant", "0000:03:00.2");
    assert_eq!(plain.severity, Warning);
    let free = nic("mlx5_core").one("vfio-variant", "0000:03:00.2");
    assert!(free.severity == Good && free.meaning.contains("loads the module"), "{free:?}");
    let module = Module { loaded: true, available: true, ..Module::default() };
    let loaded = nic("mlx5_core").on(|p| drop(p.modules.insert("mlx5_vfio_pci".into(), module)));
    assert!(loaded.one("vfio-variant", "0000:03:00.2").meaning.contains("is loaded"));
    assert_eq!(card().worst("vfio-variant", GPU), None);
}

#[test]
fn a_sleeping_device_is_reported_and_not_woken() {
    let power = |state: &str, status: &str| Power {
        state: Some(state.into()),
        runtime_status: Some(status.into()),
        ..Power::default()
    };
    let cold = card().with(GPU, |gpu| gpu.power = power("D3cold", "suspended")).one("power", GPU);
    assert!(cold.severity == Note && cold.read.contains("powered off"), "{cold:?}");
    assert_eq!(
        cold.remedy.unwrap().commands,
        ["echo on > /sys/bus/pci/devices/0000:01:00.0/power/control"]
    );
    assert_eq!(
        card().with(GPU, |gpu| gpu.power = power("D3hot", "suspended")).worst("power", GPU),
        Some(Note)
    );
    assert_eq!(
        card().with(GPU, |gpu| gpu.power = power("D0", "active")).worst("power", GPU),
        Some(Good)
    );
    let idle = Host::new(&["0000:01:00.0 10de:2684 030000 12 vfio-pci"]);
    assert_eq!(
        idle.with(GPU, |gpu| gpu.power = power("D3hot", "suspended")).worst("power", GPU),
        None
    );
}

#[test]
fn unreadable_files_are_reported() {
    let host = card().with("0000:01:00.1", |audio| audio.notes = vec!["resource: garbage".into()]);
    let finding = host.one("unreadable", GPU);
    assert_eq!((finding.severity, finding.address), (Unseen, Some(at("0000:01:00.1"))));
    assert_eq!(card().worst("unreadable", GPU), None);
    let mut host = card();
    let number = host.inventory.functions[&at(GPU)].iommu_group.unwrap();
    host.inventory.groups.entry(number).or_default().notes = vec!["no reserved_regions".into()];
    assert_eq!(host.worst("unreadable", GPU), Some(Unseen));
    assert!(host.one("unreadable", GPU).read.contains("no reserved_regions"));
}
