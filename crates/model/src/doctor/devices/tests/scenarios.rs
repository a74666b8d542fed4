//! Whole hosts: GPU servers and desktops.

use super::super::CHECKS;
use super::{CARD, GPU, Host, ISOLATING, at, bar, virtual_functions};
use crate::doctor::{Finding, Framebuffer, Module, Severity};
use crate::{Function, PortType, Power, VgpuType, VgpuTypes};

/// The text of findings, without the long commands.
fn shown(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        let address = finding.address.map(|address| format!(" {address}")).unwrap_or_default();
        let severity = format!("{:?}", finding.severity).to_lowercase();
        let mut text = format!(
            "{severity} {}{address}\n  {}\n  {}",
            finding.check, finding.read, finding.meaning
        );
        if let Some(remedy) = &finding.remedy {
            text += &format!("\n  > {}", remedy.words);
            for command in &remedy.commands {
                let mut lines = command.lines();
                let first = lines.next().unwrap_or_default();
                text +=
                    &format!("\n    $ {first}{}", if lines.next().is_some() { " ..." } else { "" });
            }
        }
        text
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A desktop with one GPU, which the desktop uses, and a drive in use by the host.
fn desktop() -> Host {
    let mut lines = CARD.to_vec();
    lines.extend([
        "0000:00:1c.0 8086:a33c 060400 5 pcieport",
        "0000:00:1f.0 8086:a305 060100 9 lpc_ich",
        "0000:00:1f.3 8086:a348 040300 9 snd_hda_intel",
        "0000:00:1f.6 8086:15bb 020000 9 e1000e",
        "0000:02:00.0 144d:a808 010802 13 nvme below 0000:00:1c.0",
    ]);
    Host::new(&lines)
        .port("0000:00:01.0", PortType::RootPort, Some(ISOLATING))
        .with(GPU, |gpu| {
            gpu.boot_vga = true;
            gpu.bars = vec![bar(0, 0xde00_0000, 16 << 20), bar(1, 0xc000_0000, 256 << 20)];
        })
        .held(GPU, 1200, "gnome-shell (pid 1200, user@1000.service)", "/dev/dri/card0")
        .held(GPU, 1200, "gnome-shell (pid 1200, user@1000.service)", "/dev/dri/renderD128")
        .held("0000:02:00.0", 0, "mounted at /", "/dev/nvme0n1p2")
        .held("0000:00:1f.6", 0, "the host's default route", "eno1")
        .on(|platform| {
            let framebuffer =
                Framebuffer { name: "BOOTFB".into(), start: 0xc000_0000, end: 0xc02f_ffff };
            platform.framebuffers = vec![framebuffer];
        })
}

#[test]
fn a_desktop_with_one_gpu() {
    insta::assert_snapshot!("desktop_overview", shown(&desktop().examine(None)));
    insta::assert_snapshot!("desktop_gpu", shown(&desktop().examine(Some(GPU))));
}

/// Eight GPUs and six NVSwitches, each in its own group, behind root ports on two sockets.
fn dgx() -> Host {
    let mut lines = Vec::new();
    for (index, bus) in ["0f", "15", "50", "53", "8c", "91", "d6", "da"].iter().enumerate() {
        lines.push(format!("0000:{bus}:00.0 10de:2330 030200 {} nvidia", 100 + index));
    }
    for (index, bus) in ["05", "06", "07", "08", "09", "0a"].iter().enumerate() {
        lines.push(format!("0000:{bus}:00.0 10de:22a3 068000 {} nvidia-nvswitch", 200 + index));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut host = Host::new(&lines);
    let gpus: Vec<String> = host.inventory.functions.keys().map(ToString::to_string).collect();
    for gpu in gpus
        .iter()
        .filter(|gpu| host.inventory.functions[&at(gpu)].class.prefix() == 0x0302)
        .cloned()
        .collect::<Vec<_>>()
    {
        host = host.with(&gpu, large).held(
            &gpu,
            900,
            "nvidia-persiste (pid 900, nvidia-persistenced.service)",
            "/dev/nvidia0",
        );
    }
    host.on(|platform| platform.cpu.physical_bits = Some(46))
}

fn large(gpu: &mut Function) {
    gpu.bars = vec![bar(0, 0, 16 << 20), bar(2, 0, 128 << 30), bar(4, 0, 32 << 20)];
}

#[test]
fn a_server_with_eight_gpus_and_six_switches() {
    insta::assert_snapshot!("dgx_overview", shown(&dgx().examine(None)));
    insta::assert_snapshot!("dgx_gpu", shown(&dgx().examine(Some("0000:50:00.0"))));
}

#[test]
fn two_groups_of_four_gpus_and_three_switches() {
    let mut lines = Vec::new();
    for bus in 1..=8 {
        lines.push(format!("0000:{bus:02x}:00.0 10de:20b0 030200 {} nvidia", 1 + bus / 5));
    }
    for bus in 0x11..=0x16 {
        lines.push(format!("0000:{bus:02x}:00.0 10de:1af1 068000 {} -", 1 + bus / 0x14));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let findings = Host::new(&lines).overview("group-isolation");
    assert_eq!(findings.len(), 2, "one for each group: {findings:#?}");
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning));
}

#[test]
fn a_laptop_with_a_sleeping_second_gpu() {
    let host = Host::new(&[
        "0000:00:02.0 8086:9a49 030000 0 i915",
        "0000:00:06.0 8086:9a09 060400 3 pcieport",
        "0000:01:00.0 10de:25a0 030200 12 nvidia below 0000:00:06.0",
    ])
    .with("0000:00:02.0", |gpu| gpu.boot_vga = true)
    .port("0000:00:06.0", PortType::RootPort, Some(ISOLATING))
    .with(GPU, |gpu| {
        gpu.power = Power {
            state: Some("D3cold".into()),
            runtime_status: Some("suspended".into()),
            control: Some("auto".into()),
            d3cold_allowed: Some(true),
        };
        gpu.notes = vec!["it sleeps: its configuration space was not read".into()];
    })
    .held("0000:00:02.0", 1100, "kwin_wayland (pid 1100)", "/dev/dri/card1");
    insta::assert_snapshot!("laptop_overview", shown(&host.examine(None)));
    insta::assert_snapshot!("laptop_gpu", shown(&host.examine(Some(GPU))));
}

/// An A100 with four VFs: two are vGPUs, one is free, one was not set up.
#[test]
fn a_server_with_vgpus() {
    let vfs = ["0000:41:00.4", "0000:41:00.5", "0000:41:00.6", "0000:41:00.7"];
    let mut lines = vec!["0000:41:00.0 10de:20b5 030200 40 nvidia".to_owned()];
    lines.extend(
        vfs.iter()
            .enumerate()
            .map(|(index, vf)| format!("{vf} 10de:20b5 030200 {} nvidia", 50 + index)),
    );
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut host =
        Host::new(&lines).with("0000:41:00.0", |gpu| gpu.sriov = virtual_functions(16, &vfs));
    for (vf, current) in vfs.iter().zip([Some(Some(695)), Some(Some(695)), Some(None), None]) {
        host = host.with(vf, |vf| vf.physical_function = Some(at("0000:41:00.0"))).detailed(
            vf,
            |detail| {
                let creatable = vec![VgpuType { id: 695, name: "GRID A100-4C".into() }];
                detail.vgpu = current.map(|current| VgpuTypes { current, creatable });
            },
        );
    }
    let module = Module { loaded: true, available: true, ..Module::default() };
    let host = host.on(|platform| drop(platform.modules.insert("nvidia_vgpu_vfio".into(), module)));
    insta::assert_snapshot!("vgpu_overview", shown(&host.examine(None)));
    insta::assert_snapshot!("vgpu_part", shown(&host.examine(Some("0000:41:00.4"))));
}

/// A consumer board: the second slot, a network card and a drive are behind the chipset, in one group.
#[test]
fn a_board_whose_chipset_slots_share_a_group() {
    let below = "below 0000:00:01.2,0000:02:00.2";
    let slot = |line: &str| format!("{line} {below}");
    let lines = [
        "0000:00:01.2 1022:1483 060400 15 pcieport".to_owned(),
        "0000:02:00.0 1022:43ee 0c0330 15 xhci_hcd below 0000:00:01.2".into(),
        "0000:02:00.2 1022:43e9 060400 15 pcieport below 0000:00:01.2".into(),
        slot("0000:04:00.0 1002:67df 030000 15 amdgpu"),
        slot("0000:04:00.1 1002:aaf0 040300 15 snd_hda_intel"),
        slot("0000:05:00.0 8086:2723 028000 15 iwlwifi"),
        slot("0000:06:00.0 10ec:8168 020000 15 r8169"),
        slot("0000:07:00.0 c0a9:540a 010802 15 nvme"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let host = Host::new(&lines)
        .port("0000:00:01.2", PortType::RootPort, Some(ISOLATING))
        .port("0000:02:00.2", PortType::SwitchDownstream, None)
        .with("0000:04:00.0", |gpu| gpu.reset_methods = vec!["bus".into()])
        .held("0000:06:00.0", 0, "the host's default route", "enp6s0");
    insta::assert_snapshot!("chipset_overview", shown(&host.examine(None)));
    insta::assert_snapshot!("chipset_gpu", shown(&host.examine(Some("0000:04:00.0"))));
}

#[test]
fn sixty_functions_of_a_chipset_are_no_noise() {
    let lines: Vec<String> = (0..60)
        .map(|n| format!("0000:{:02x}:{:02x}.0 8086:{n:04x} 088000 {n} x", n / 30, n % 30))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(Host::new(&lines).examine(None), []);
}

#[test]
fn every_check_that_speaks_is_in_the_catalog() {
    for host in [desktop(), dgx()] {
        for head in host.inventory.functions.keys() {
            for finding in host.examine(Some(&head.to_string())) {
                let known = CHECKS.iter().any(|(name, _)| *name == finding.check);
                assert!(known, "{} is not in the catalog", finding.check);
            }
        }
    }
}
