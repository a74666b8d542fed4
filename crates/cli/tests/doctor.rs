//! The doctor on made-up hosts, from files to output; and its scripts, run below a prefix.
#![allow(clippy::unwrap_used)]

mod hosts;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use hosts::{Host, run_below};
use model::boot_list::BootListEntry;
use model::doctor::{InitramfsTool, Platform, remedy};
use model::{Address, Function, Id};
use snapbox::{assert_data_eq, file};

fn doctor(host: &Host, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.arg("doctor").args(arguments).arg("--root").arg(host.path());
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Compares the output as text, JSON and script with the golden files.
macro_rules! golden {
    ($host:expr, $status:literal, $text:literal, $json:literal, $script:literal) => {{
        let host: Host = $host;
        let output = doctor(&host, &["--all"]);
        assert_data_eq!(text(&output), file![$text].raw());
        assert_eq!(output.status.code(), Some($status));
        let json = doctor(&host, &["--json"]);
        assert_data_eq!(pretty(&text(&json)), file![$json].raw());
        assert_eq!(json.status.code(), Some($status));
        let script = doctor(&host, &["--fix-script"]);
        assert_data_eq!(text(&script), file![$script].raw());
        assert_eq!(script.status.code(), Some(0));
        is_shell(&text(&script));
    }};
}

/// JSON in a form that makes readable diffs.
fn pretty(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    format!("{value:#}\n")
}

/// A shell can read it.
fn is_shell(script: &str) {
    let output = Command::new("sh").args(["-n", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_debian_server_where_all_is_well() {
    golden!(
        hosts::debian(),
        0,
        "doctor/debian-good.txt",
        "doctor/debian-good.json",
        "doctor/debian-good.sh"
    );
}

#[test]
fn a_host_without_an_iommu() {
    golden!(
        hosts::debian_without_iommu(),
        11,
        "doctor/debian-no-iommu.txt",
        "doctor/debian-no-iommu.json",
        "doctor/debian-no-iommu.sh"
    );
}

#[test]
fn a_proxmox_host_with_shortcuts() {
    golden!(
        hosts::proxmox(),
        10,
        "doctor/proxmox-amd.txt",
        "doctor/proxmox-amd.json",
        "doctor/proxmox-amd.sh"
    );
}

#[test]
fn fedora_with_selinux_and_a_large_bar() {
    golden!(
        hosts::fedora(),
        10,
        "doctor/fedora-selinux.txt",
        "doctor/fedora-selinux.json",
        "doctor/fedora-selinux.sh"
    );
}

#[test]
fn a_laptop_with_arch() {
    golden!(
        hosts::arch(),
        11,
        "doctor/arch-laptop.txt",
        "doctor/arch-laptop.json",
        "doctor/arch-laptop.sh"
    );
}

/// The X server's configuration for NVIDIA's driver: the package's file is diverted, so that no update brings it back.
#[test]
fn the_desktops_configuration_for_the_card_is_found_and_moved_aside() {
    let host = hosts::debian_with_gpu();
    let file = "/usr/share/X11/xorg.conf.d/10-nvidia.conf";
    let text = "Section \"OutputClass\"\n    Identifier \"nvidia\"\n    MatchDriver \"nvidia-drm\"\n    Driver \"nvidia\"\nEndSection\n";
    host.file(file.trim_start_matches('/'), text);
    host.file("usr/share/X11/xorg.conf.d/40-libinput.conf", "Driver \"libinput\"\n");
    let said = self::text(&doctor(&host, &["--for", "0000:02:00.0"]));
    assert!(
        said.contains("x11-config 0000:02:00.0: ")
            && said.contains("10-nvidia.conf names nvidia and"),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "dpkg-divert --local --rename --divert {file}.disabled --add {file}"
        )),
        "{said}"
    );
    assert!(!said.contains("libinput"), "{said}");
}

/// The last line says how many devices can be handed over, and which.
#[test]
fn the_verdict_counts_and_names_the_devices() {
    let said = |host: &Host| text(&doctor(host, &[])).lines().last().unwrap().to_owned();
    let good = hosts::debian();
    assert!(said(&good).contains("0000:01:00.0 can be handed over"), "{}", said(&good));
    good.file("proc/xen/capabilities", "control_d\n");
    let output = doctor(&good, &[]);
    assert_eq!(output.status.code(), Some(11));
    assert!(said(&good).contains("device cannot be handed over now; see Blocking"), "{output:?}");
    let used = hosts::debian_with_interface();
    let route = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                 eno1\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    used.file("proc/net/route", route);
    let last = said(&used);
    assert!(last.contains("cannot be handed over now; in use: 0000:01:00.0"), "{last}");
}

/// A program that Handover does not need is no check that passed.
#[test]
fn optional_programs_do_not_count_as_passed() {
    let counted = |host: &Host| {
        let text = text(&doctor(host, &[]));
        text.lines().find(|line| line.contains(" passed")).map(str::to_owned)
    };
    let (with, without) = (hosts::debian(), hosts::debian());
    without.without("usr/share/OVMF/OVMF_CODE_4M.fd");
    assert_eq!(counted(&with), counted(&without));
}

#[test]
fn good_findings_are_hidden_by_default() {
    let host = hosts::debian();
    let said = text(&doctor(&host, &[]));
    assert!(!said.contains("Passed") && said.contains("checks passed"), "{said}");
}

#[test]
fn an_address_where_nothing_is_is_an_error() {
    let output = doctor(&hosts::debian(), &["--for", "0000:7f:00.0"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no PCI function at 0000:7f:00.0"));
}

#[test]
fn the_script_does_the_same_when_it_is_run_twice() {
    let host = hosts::debian_without_iommu();
    let script = text(&doctor(&host, &["--fix-script"]));
    let drop_in = host.path().join("etc/default/grub.d/zz-handover.cfg");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let output = run_below(host.path(), &script, "0");
        assert!(output.status.success(), "{output:?}\n{script}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Reboot this host"));
        seen.push(fs::read_to_string(&drop_in).unwrap());
    }
    assert_eq!(seen[0], seen[1]);
    let line = "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT intel_iommu=on\"\n";
    assert_eq!(seen[0], line);
    let called = fs::read_to_string(host.path().join("called")).unwrap();
    assert_eq!(called.matches("update-grub").count(), 2, "{called}");
}

#[test]
fn the_script_takes_options_off_the_command_line() {
    let host = hosts::proxmox();
    let script = text(&doctor(&host, &["--fix-script"]));
    for _ in 0..2 {
        let output = run_below(host.path(), &script, "0");
        assert!(output.status.success(), "{output:?}\n{script}");
        let line = fs::read_to_string(host.path().join("etc/kernel/cmdline")).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["root=ZFS=rpool/ROOT/pve-1", "quiet"]
        );
        let options = fs::read_to_string(host.path().join("etc/modprobe.d/vfio.conf")).unwrap();
        assert_eq!(options, "options vfio-pci disable_idle_d3=1\n");
    }
}

#[test]
fn a_line_is_appended_as_a_line_of_its_own() {
    let host = hosts::debian_without_iommu();
    let drop_in = "etc/default/grub.d/zz-handover.cfg";
    host.file(drop_in, "# mine, without an end of the line");
    let script = text(&doctor(&host, &["--fix-script"]));
    for _ in 0..2 {
        assert!(run_below(host.path(), &script, "0").status.success());
    }
    let option = "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT intel_iommu=on\"";
    assert_eq!(
        fs::read_to_string(host.path().join(drop_in)).unwrap(),
        format!("# mine, without an end of the line\n{option}\n")
    );
}

#[test]
fn the_script_refuses_to_run_without_root() {
    let host = hosts::debian_without_iommu();
    let script = text(&doctor(&host, &["--fix-script"]));
    let output = run_below(host.path(), &script, "1000");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("as root"));
    assert!(!host.path().join("etc/default/grub.d").exists());
}

fn gpu() -> Function {
    let mut gpu = Function::unknown(Address::new(0, 1, 0, 0).unwrap());
    (gpu.vendor, gpu.device) = (Id(0x10de), Id(0x20b0));
    gpu
}

#[test]
fn boot_list_entries_of_changed_devices_are_reported() {
    let host = Host::new();
    let mut other = gpu();
    other.address = Address::new(0, 2, 0, 0).unwrap();
    let entries = [&gpu(), &other].map(|one| format!("{}\n", BootListEntry::of(one)));
    let write = |path: &str, text: &str| {
        let directory = path.rsplit_once('/').unwrap().0;
        let command = format!("mkdir -p {directory}\ncat > {path} <<'END'\n{text}END\n");
        assert!(run_below(host.path(), &command, "0").status.success());
    };
    write("/etc/handover/reserve", &entries.concat());
    for file in model::boot_list::files(InitramfsTool::InitramfsTools) {
        write(file.path, file.text);
    }
    let list = fs::read_to_string(host.path().join("etc/handover/reserve")).unwrap();
    assert_eq!(list, "0000:01:00.0 0x10de 0x20b0 vfio-pci\n0000:02:00.0 0x10de 0x20b0 vfio-pci\n");
    // The second address now has another card.
    for (address, device) in [("0000:01:00.0", "0x20b0"), ("0000:02:00.0", "0x1af4")] {
        let directory = format!("sys/bus/pci/devices/{address}");
        host.file(&format!("{directory}/vendor"), "0x10de\n");
        host.file(&format!("{directory}/device"), &format!("{device}\n"));
        host.file(&format!("{directory}/driver_override"), "(null)\n");
    }
    host.file("sys/bus/pci/drivers_probe", "");
    let init_top = host.path().join("etc/initramfs-tools/scripts/init-top/handover");
    let output = run_below(host.path(), &fs::read_to_string(&init_top).unwrap(), "0");
    assert!(output.status.success(), "{output:?}");
    let read = |path: &str| fs::read_to_string(host.path().join(path)).unwrap();
    assert_eq!(read("sys/bus/pci/devices/0000:01:00.0/driver_override"), "vfio-pci\n");
    assert_eq!(read("sys/bus/pci/devices/0000:02:00.0/driver_override"), "(null)\n");
    assert_eq!(read("sys/bus/pci/drivers_probe"), "0000:01:00.0\n");
    assert!(read("called").lines().any(|line| line == "modprobe vfio-pci"));
}

#[test]
fn every_tools_files_can_be_read_by_a_shell() {
    for initramfs in
        [InitramfsTool::InitramfsTools, InitramfsTool::Dracut, InitramfsTool::Mkinitcpio]
    {
        for file in model::boot_list::files(initramfs) {
            if file.text.starts_with("#!") {
                let output = Command::new("bash").args(["-n", "-c", file.text]).output().unwrap();
                assert!(output.status.success(), "{}", file.text);
            }
        }
        let platform = Platform { initramfs, ..Platform::default() };
        let gpu = gpu();
        let remedy = remedy::boot_list(&platform, gpu.address, &[&gpu]);
        assert!(remedy.reboot);
        assert_eq!(remedy.commands, ["handover boot-list 0000:01:00.0 --rebuild"]);
    }
}

/// A file of the administrator that sets the variable again would undo ours if it came after it.
#[test]
fn an_option_stays_whatever_other_files_of_grub_set() {
    let host = hosts::debian_without_iommu();
    let other = "etc/default/grub.d/local.cfg";
    host.file(other, "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\n");
    let script = text(&doctor(&host, &["--fix-script"]));
    assert!(run_below(host.path(), &script, "0").status.success());
    let sourced = "for file in etc/default/grub.d/*.cfg; do . \"./$file\"; done; echo $GRUB_CMDLINE_LINUX_DEFAULT";
    let output =
        Command::new("sh").args(["-c", sourced]).current_dir(host.path()).output().unwrap();
    assert_eq!(text(&output), "quiet splash intel_iommu=on\n");
}

#[test]
fn the_table_of_checks_in_the_documentation_is_complete() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    let document = fs::read_to_string(&file).unwrap();
    let mut wanted = document.clone();
    let [host, devices] = model::doctor::checks();
    for (title, checks) in [("host", host), ("devices", devices)] {
        let (begin, end) =
            (format!("<!-- checks of {title} -->\n"), format!("<!-- end of {title} -->"));
        let rows: String = checks
            .iter()
            .map(|(name, looks_for)| format!("| `{name}` | {looks_for} |\n"))
            .collect();
        let from = wanted.find(&begin).unwrap() + begin.len();
        let to = wanted.find(&end).unwrap();
        wanted.replace_range(from..to, &format!("| check | looks for |\n|---|---|\n{rows}"));
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &wanted).unwrap();
    } else {
        assert!(document == wanted, "docs/doctor.md is not what the code says; run with UPDATE=1");
    }
}
