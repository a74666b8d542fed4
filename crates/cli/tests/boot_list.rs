//! `handover boot-list` on a made-up host: the files, what is printed, and what the boot script does with them.
#![allow(clippy::unwrap_used)]

mod hosts;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use hosts::Host;
use snapbox::{assert_data_eq, file};

const GPU: &str = "0000:02:00.0";

fn boot_list(host: &Host, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.arg("boot-list").args(arguments).arg("--root").arg(host.path());
    command.output().unwrap()
}

/// The output, without the host's path.
fn said(host: &Host, arguments: &[&str]) -> String {
    let output = boot_list(host, arguments);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.replace(&host.path().display().to_string(), "/host")
}

/// The error of a refused command, with its exit status.
fn refused(host: &Host, arguments: &[&str]) -> (Option<i32>, String) {
    let output = boot_list(host, arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// All files below a directory, with their contents.
fn files(directory: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                left.push(path);
            } else if path.is_file() {
                all.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_gpu_is_added_with_its_iommu_group_and_removed() {
    let host = hosts::debian_with_gpu();
    let before = files(&host.path().join("etc"));
    let mut told = String::new();
    for arguments in [
        &[GPU, "--dry-run"][..],
        &[GPU],
        &[GPU],
        &["--list"],
        &[GPU, "--remove", "--dry-run"],
        &[GPU, "--remove"],
        &[GPU, "--remove"],
        &["--list"],
    ] {
        if arguments.contains(&"--dry-run") && !arguments.contains(&"--remove") {
            assert_eq!(files(&host.path().join("etc")), before);
        }
        told +=
            &format!("$ handover boot-list {}\n{}\n", arguments.join(" "), said(&host, arguments));
    }
    assert_data_eq!(told, file!["boot_list/debian.txt"].raw());
    assert_eq!(files(&host.path().join("etc")), before, "all of it is gone");
    assert!(!host.path().join("etc/handover").exists());
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let modes = |umask: &str| {
        let host = hosts::debian_with_gpu();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
        command.args([env!("CARGO_BIN_EXE_handover"), "boot-list", GPU, "--root"]);
        let output = command.arg(host.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mode = |path: &str| {
            let metadata = fs::metadata(host.path().join(path)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        let hook = mode("etc/initramfs-tools/hooks/handover");
        (mode("etc/handover"), mode("etc/handover/reserve"), hook)
    };
    assert_eq!(modes("000"), (0o755, 0o644, 0o755));
    assert_eq!(modes("077"), (0o755, 0o644, 0o755));
}

#[test]
fn a_program_gets_json() {
    let host = hosts::debian_with_gpu();
    let json: serde_json::Value = serde_json::from_str(&said(&host, &[GPU, "--json"])).unwrap();
    assert_eq!(json["functions"][0]["pci_address"], GPU);
    assert_eq!(json["written"][0], "/host/etc/handover/reserve");
    assert_eq!(json["to_run"], "update-initramfs -u -k all");
    let json: serde_json::Value =
        serde_json::from_str(&said(&host, &["--list", "--json"])).unwrap();
    assert_eq!(json[0]["driver"], "vfio-pci");
}

#[test]
fn files_of_others_are_neither_overwritten_nor_removed() {
    let host = hosts::debian_with_gpu();
    let hook = "etc/initramfs-tools/hooks/handover";
    host.file(hook, "#!/bin/sh\n# mine\n");
    let (status, why) = refused(&host, &[GPU]);
    assert_eq!(status, Some(5), "{why}");
    assert!(why.contains(hook) && why.contains("not written by Handover"), "{why}");
    assert!(!host.path().join("etc/handover").exists(), "nothing is written then");
    fs::remove_file(host.path().join(hook)).unwrap();
    // Lines that a person added stay, on adding and on removing.
    host.file(
        "etc/handover/reserve",
        "# the card in the lower slot\n0000:7f:00.0 0x10de 0x20b0 vfio-pci\n",
    );
    said(&host, &[GPU]);
    said(&host, &[GPU, "--remove"]);
    let list = || fs::read_to_string(host.path().join("etc/handover/reserve")).unwrap();
    assert_eq!(list(), "# the card in the lower slot\n0000:7f:00.0 0x10de 0x20b0 vfio-pci\n");
    assert!(host.path().join(hook).exists(), "another device is still reserved");
    // An absent device can still be removed.
    said(&host, &["0000:7f:00.0", "--remove"]);
    assert_eq!(list(), "# the card in the lower slot\n");
    assert!(!host.path().join(hook).exists());
}

#[test]
fn impossible_boot_list_entries_are_refused() {
    let host = hosts::debian_with_gpu();
    let before = files(&host.path().join("etc"));
    let (status, why) = refused(&host, &["0000:7f:00.0"]);
    assert_eq!(status, Some(3), "{why}");
    let (status, why) = refused(&host, &[GPU, "--rebuild"]);
    assert_eq!(status, Some(2), "{why}");
    assert_eq!(files(&host.path().join("etc")), before);
    fs::remove_file(host.path().join("usr/sbin/mkinitramfs")).unwrap();
    let (status, why) = refused(&host, &[GPU]);
    assert_eq!(status, Some(6), "{why}");
    assert!(why.contains("initial ramdisk"), "{why}");
}

/// Runs the boot script on the host's tree, with a `modprobe` that only records its calls.
fn boot(host: &Host) -> Output {
    let bin = host.path().join("stubs");
    fs::create_dir_all(&bin).unwrap();
    fs::write(
        bin.join("modprobe"),
        format!("#!/bin/sh\necho \"$@\" >> {}/called\n", bin.display()),
    )
    .unwrap();
    fs::set_permissions(bin.join("modprobe"), PermissionsExt::from_mode(0o755)).unwrap();
    let script = host.path().join("etc/initramfs-tools/scripts/init-top/handover");
    let below = |text: String| {
        ["etc", "sys"].iter().fold(text, |text, top| {
            [" ", "="].iter().fold(text, |text, before| {
                text.replace(
                    &format!("{before}/{top}/"),
                    &format!("{before}{}/{top}/", host.path().display()),
                )
            })
        })
    };
    let own = host.path().join("etc/handover/reserve.sh");
    let text = below(fs::read_to_string(&own).unwrap());
    fs::write(&own, text).unwrap();
    let script = below(fs::read_to_string(script).unwrap());
    Command::new("sh")
        .args(["-eu", "-c", &script])
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .output()
        .unwrap()
}

#[test]
fn at_the_boot_only_what_still_is_the_same_is_taken() {
    let host = hosts::debian_with_gpu();
    said(&host, &[GPU]);
    let own = format!("sys/bus/pci/devices/{GPU}");
    let list = fs::read_to_string(host.path().join("etc/handover/reserve")).unwrap();
    let others: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(others.contains(&GPU), "{list}");
    for address in &others {
        host.file(&format!("sys/bus/pci/devices/{address}/driver_override"), "(null)\n");
    }
    let output = boot(&host);
    assert!(output.status.success(), "{output:?}");
    let read = |path: &str| fs::read_to_string(host.path().join(path)).unwrap();
    assert_eq!(read(&format!("{own}/driver_override")), "vfio-pci\n");
    assert!(read("stubs/called").lines().all(|line| line == "vfio-pci"));
    // At the next boot another card has this address.
    host.file(&format!("{own}/device"), "0x1af4\n");
    host.file(&format!("{own}/driver_override"), "(null)\n");
    assert!(boot(&host).status.success());
    assert_eq!(read(&format!("{own}/driver_override")), "(null)\n");
    assert!(said(&host, &["--list"]).contains("another device at this address (10de:1af4)"));
}

struct Quiet;

impl engine::Observer for Quiet {
    fn reached(&self, _: &engine::JournalEvent) {}
}

/// A state directory with a claim `--at-boot` of the GPU; returns its id.
fn claimed_at_boot(state_dir: &Path) -> String {
    let at = |text: &str| text.parse().unwrap();
    let card = |address, device, class, group| {
        sim::Card::new(at(address), (0x10de, device), class, group, Some("nvidia"))
    };
    let cards = [card(GPU, 0x2204, 0x03_0000, 3), card("0000:02:00.1", 0x1aef, 0x04_0300, 4)];
    let host = Arc::new(sim::SimHost::new(sim::Card::inventory(&cards)));
    let launcher = Arc::new(sim::SimLauncher::new(host.clone()));
    let config = engine::Config {
        state_dir: state_dir.to_owned(),
        image_dirs: Vec::new(),
        block_dirs: Vec::new(),
        image_limits: engine::ImageLimits::default(),
        machine_uids: 0..0,
        shutdown_grace: std::time::Duration::from_secs(1),
        journal_timeout: engine::JOURNAL_TIMEOUT,
        journal_kept: engine::JournalKept::default(),
        guest_init: None,
    };
    let engine = engine::Engine::open(config, host, vec![launcher], Arc::new(Quiet)).unwrap();
    engine.recover().unwrap();
    let owner = model::Owner { kind: "job".into(), id: "7".into() };
    let request = engine::ClaimRequest {
        at_boot: true,
        ..engine::ClaimRequest::new(owner, vec![GPU.parse().unwrap()])
    };
    engine.claims().claim(&request).unwrap().claim.id.to_string()
}

#[test]
fn what_a_claim_put_on_the_list_is_not_removed_from_it() {
    let host = hosts::debian_with_gpu();
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let id = claimed_at_boot(&state);
    said(&host, &[GPU]);
    let listed = files(&host.path().join("etc"));
    let state = state.to_str().unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let (status, error) =
            refused(&host, &[&[GPU, "--remove", "--state-dir", state], more].concat());
        assert_eq!(status, Some(6), "{error}");
        assert!(error.contains(&format!("the claim {id} of job/7")), "{error}");
        assert!(error.contains(&format!("handover release {id}")), "{error}");
        assert_eq!(files(&host.path().join("etc")), listed, "nothing was changed");
    }
    // Without that claim, such as after its release, they are removed.
    said(&host, &[GPU, "--remove", "--state-dir", place.path().join("none").to_str().unwrap()]);
}
