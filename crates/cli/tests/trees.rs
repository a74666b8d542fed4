//! Recorded hosts, unpacked and changed in one place: what commands say when a fact is missing or odd.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

/// A drive of the workstation that can be handed over.
const DRIVE: &str = "0000:04:00.0";

struct Tree(tempfile::TempDir);

impl Tree {
    fn of(fixture: &str) -> Self {
        let file = std::fs::File::open(format!("{FIXTURES}/{fixture}.tar.gz")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        archive.unpack(directory.path()).unwrap();
        Self(directory)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    /// Both outputs, without line breaks within sentences.
    fn said(&self, arguments: &[&str]) -> String {
        said(self.0.path(), arguments).1
    }
}

fn said(root: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(arguments)
        .arg("--root")
        .arg(root)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let status = output.status.code().unwrap();
    (status, text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn of_function(address: &str, name: &str) -> String {
    format!("sys/bus/pci/devices/{address}/{name}")
}

/// "Can be handed over" is said only if each fact that a hand-over needs was read.
#[test]
fn a_fact_that_was_not_read_is_told_and_the_verdict_is_no_promise() {
    let doctor = ["doctor", "--for", DRIVE];
    let whole = |tree: &Tree| {
        let regions = "0x00000000fee00000 0x00000000feefffff msi\n";
        tree.write("sys/kernel/iommu_groups/14/reserved_regions", regions);
    };
    let tree = Tree::of("recordings/workstation");
    whole(&tree);
    let said = tree.said(&doctor);
    assert!(said.contains(&format!("Verdict: {DRIVE} can be handed over")), "{said}");
    let missing = [
        (of_function(DRIVE, "config"), "no config"),
        (of_function(DRIVE, "resource"), "no resource"),
        ("sys/kernel/iommu_groups/14/type".to_owned(), "no type"),
        ("sys/kernel/iommu_groups/14/reserved_regions".to_owned(), "no reserved_regions"),
    ];
    for (path, words) in missing {
        let tree = Tree::of("recordings/workstation");
        whole(&tree);
        tree.remove(&path);
        let said = tree.said(&doctor);
        assert!(said.contains("? unreadable") && said.contains(words), "{path}: {said}");
        assert!(said.contains("nothing that could be read prevents a hand-over"), "{path}: {said}");
    }
}

/// Only vfio-pci says nothing about a dead card: any other driver, and none, must not hide that either.
#[test]
fn a_card_that_does_not_respond_is_seen_on_any_driver() {
    let link = of_function("0000:01:00.0", "driver");
    for driver in [None, Some("nouveau")] {
        let tree = Tree::of("reports/12-dead-config");
        tree.remove(&link);
        if let Some(driver) = driver {
            let target = format!("../../../bus/pci/drivers/{driver}");
            std::os::unix::fs::symlink(target, tree.path(&link)).unwrap();
        }
        let ls = tree.said(&["ls"]);
        assert!(ls.contains("its configuration space reads as all ones"), "{driver:?}: {ls}");
        for what in ["gpu", "0000:01:00.0"] {
            let (status, text) = said(tree.0.path(), &["claim", "--dry-run", what]);
            assert_ne!(status, 0, "{what}: {text}");
            assert!(text.contains("reads as all ones"), "{driver:?}: {text}");
        }
        // A suspended card is not woken to find out.
        tree.write(&of_function("0000:01:00.0", "power/runtime_status"), "suspended\n");
        let ls = tree.said(&["ls"]);
        assert!(!ls.contains("all ones"), "{driver:?}: {ls}");
    }
}

#[test]
fn resets_that_are_switched_off_are_no_old_kernel() {
    let tree = Tree::of("recordings/workstation");
    tree.write(&of_function(DRIVE, "reset_method"), "\n");
    let on = format!("echo default > /sys/bus/pci/devices/{DRIVE}/reset_method");
    for command in [&["doctor", "--for", DRIVE][..], &["show", DRIVE]] {
        let said = tree.said(command);
        assert!(said.contains("switched off") && said.contains(&on), "{said}");
        assert!(!said.contains("5.15"), "{said}");
    }
}

/// A suggestion is an address at which something is.
#[test]
fn an_address_that_is_not_there_is_not_suggested() {
    let tree = Tree::of("recordings/workstation");
    for text in ["0000:99:00.0", "99:00.0", "99:0.0"] {
        for command in [&["show", text][..], &["doctor", "--for", text]] {
            let said = tree.said(command);
            assert!(said.contains("no PCI function at"), "{said}");
            assert!(!said.contains("did you mean"), "{said}");
        }
    }
    let said = tree.said(&["show", "4:0.0"]);
    assert!(said.contains(&format!("did you mean `{DRIVE}`?")), "{said}");
}

/// The verdict on a host counts what a claim accepts, and the overview has the reason for the rest.
#[test]
fn the_verdict_on_a_host_is_that_of_its_claims() {
    let doctor = |fixture: &str| Tree::of(fixture).said(&["doctor"]);
    // The drives behind VMD go with their controller.
    let vmd = doctor("reports/07-vmd-nvme");
    assert!(vmd.contains("0000:00:0e.0 can be handed over"), "{vmd}");
    let rmrr = doctor("reports/09-rmrr");
    assert!(rmrr.contains("not possible: 0000:04:00.0 and 0000:04:00.1"), "{rmrr}");
    assert!(
        rmrr.contains("i assignable 0000:04:00.1: the firmware uses") && rmrr.contains("(an RMRR"),
        "{rmrr}"
    );
    let vgpu = doctor("reports/33-vgpu-vendor-existing");
    assert!(vgpu.contains("in parts only (`handover ls` lists them): 0000:41:00.0"), "{vgpu}");
    assert!(vgpu.contains("0000:41:00.0 has 4 virtual functions"), "{vgpu}");
}

#[test]
fn the_hosts_own_displays_are_named_where_they_are_free() {
    let ls = Tree::of("reports/39-kind-serial-bus").said(&["ls"]);
    assert!(ls.contains("ast free (management display)"), "{ls}");
    let tree = Tree::of("reports/39-kind-serial-bus");
    let doctor = tree.said(&["doctor", "--for", "0000:08:00.0"]);
    assert!(!doctor.contains("console and desktop"), "an accelerator has no display: {doctor}");
    let tree = Tree::of("recordings/workstation");
    tree.write(&of_function("0000:01:00.0", "boot_vga"), "1\n");
    let ls = tree.said(&["ls"]);
    assert!(ls.contains("labgpu free (host console)"), "{ls}");
}

/// What no tool could have put into an initial ramdisk is removed from the list all the same.
#[test]
fn an_entry_of_the_boot_list_is_removed_without_a_tool_for_the_ramdisk() {
    let tree = Tree::of("recordings/workstation");
    tree.write("etc/handover/reserve", format!("{DRIVE} 0x1b36 0x0010 vfio-pci\n"));
    let (status, text) = said(tree.0.path(), &["boot-list", DRIVE, "--remove"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("removed from the boot list"), "{text}");
    assert!(!tree.path("etc/handover/reserve").exists());
    let (status, text) = said(tree.0.path(), &["boot-list", DRIVE]);
    assert_ne!(status, 0, "{text}");
    assert!(text.contains("initramfs-tools"), "{text}");
}
