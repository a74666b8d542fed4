//! `handover catalog` on a made-up host: output and exit status.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A function of the made-up host: address, vendor, device, class, group.
type Card = (&'static str, &'static str, &'static str, &'static str, u32);

const CARDS: [Card; 5] = [
    ("0000:01:00.0", "0x10de", "0x20b0", "0x030200", 1),
    ("0000:02:00.0", "0x10de", "0x2204", "0x030000", 2),
    ("0000:02:00.1", "0x10de", "0x1aef", "0x040300", 2),
    ("0000:03:00.0", "0x8086", "0x10d3", "0x020000", 3),
    ("0000:04:00.0", "0x8086", "0x1521", "0x020000", 3),
];

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A tree with the part of sysfs that a listing reads.
fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for (address, vendor, device, class, group) in CARDS {
        let folder = at("sys/devices/pci0000:00").join(address);
        write(&folder.join("vendor"), &format!("{vendor}\n"));
        write(&folder.join("device"), &format!("{device}\n"));
        write(&folder.join("class"), &format!("{class}\n"));
        write(&folder.join("subsystem_vendor"), "0x10de\n");
        write(&folder.join("subsystem_device"), "0x1450\n");
        write(&folder.join("revision"), "0xa1\n");
        let groups = at("sys/kernel/iommu_groups").join(group.to_string());
        write(&groups.join("type"), "DMA\n");
        fs::create_dir_all(groups.join("devices")).unwrap();
        let devices = "../../../../devices/pci0000:00";
        symlink(format!("{devices}/{address}"), groups.join("devices").join(address)).unwrap();
        let link = format!("../../../kernel/iommu_groups/{group}");
        symlink(link, folder.join("iommu_group")).unwrap();
        let bus = at("sys/bus/pci/devices");
        fs::create_dir_all(&bus).unwrap();
        symlink(format!("../../../devices/pci0000:00/{address}"), bus.join(address)).unwrap();
    }
    fs::create_dir_all(at("sys/class/iommu/dmar0")).unwrap();
    for module in ["vfio_pci", "vfio_iommu_type1"] {
        fs::create_dir_all(at("sys/module").join(module)).unwrap();
    }
    write(&at("proc/sys/kernel/osrelease"), "6.12.0\n");
    root
}

fn catalog(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.arg("catalog").args(arguments).arg("--root").arg(root);
    command.current_dir(root).output().unwrap()
}

fn check(text: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let root = host();
    write(&root.path().join("pci.yaml"), text);
    let output = catalog(root.path(), &[&["check", "pci.yaml"], more].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const FILE: &str = r#"vendors:
  - id: "0x10de"
    name: nvidia
    devices:
      - id: "0x030200"
        name: ga100gl.rev.a1
        type: gpu
      - id: "0x2204"
        name: rtx3090
        type: gpu
  - id: "0x8086"
    name: intel
    devices:
      - id: "0x020000"
        name: gigabit
        type: network
"#;

#[test]
fn a_file_that_fits_ends_with_0() {
    let (status, out, err) = check(FILE, &[]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    snapbox::assert_data_eq!(out, snapbox::file!["catalog/fits.txt"]);
}

#[test]
fn entries_that_match_nothing_are_reported_with_exit_status_10() {
    let more = r#"      - id: "0x100f"
        name: x520-da2
        type: network
      - id: "0x0200"
        name: class-prefix
        type: network
      - {id: "10d3", name: other-card, type: network, subsystem: "8086:a01f"}
      - {id: "10d3", name: elsewhere, type: network, addresses: ["0000:09:00.0"]}
      - {id: "0x020000", name: later, type: network}
      - {id: "0x028000", name: wireless, type: network}
  - id: "0x1002"
    name: amd
    devices:
      - {id: "0x2204", name: moved, type: gpu}
  - id: "0x15b3"
    name: mellanox
    devices:
      - {id: "0x1017", name: cx5, type: network}
"#;
    let (status, out, err) = check(&format!("{FILE}{more}"), &[]);
    assert_eq!((status, err.as_str()), (Some(10), ""), "{out}");
    snapbox::assert_data_eq!(out, snapbox::file!["catalog/warnings.txt"]);
}

#[test]
fn the_json_says_the_same() {
    let (status, out, _) = check(FILE, &["--json"]);
    assert_eq!(status, Some(0));
    let survey: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(survey["resources"][0]["name"], "gpu.nvidia/ga100gl.rev.a1");
    assert_eq!(survey["resources"][2]["count"], 2);
    assert_eq!(survey["resources"][2]["available"], 1);
    assert_eq!(survey["resources"][2]["devices"][1]["state"]["address"], "0000:03:00.0");
    assert_eq!(survey["unmatched"], serde_json::json!([]));
}

#[test]
fn every_mistake_of_a_file_is_reported() {
    let wrong = FILE
        .replace("\"0x2204\"", "\"0x03020\"")
        .replace("name: rtx3090", "name: rtx/3090")
        .replace("name: intel", "name: intel\n    nmae: x");
    let (status, _, err) = check(&wrong, &[]);
    assert_eq!(status, Some(2));
    for problem in
        ["3 mistakes", "\"0x03020\" is neither", "\"rtx/3090\" cannot be", "unknown key `nmae`"]
    {
        assert!(err.contains(problem), "{problem}: {err}");
    }
}

#[test]
fn a_wrong_file_is_refused_with_the_place() {
    let (status, out, err) = check(&FILE.replace("\"0x2204\"", "\"0x22\""), &[]);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    snapbox::assert_data_eq!(err, snapbox::file!["catalog/wrong.txt"]);
    let (status, out, err) = check(&FILE.replace("name: rtx3090", "nmae: rtx3090"), &["--json"]);
    let mistakes: Value = serde_json::from_str(&out).unwrap();
    // The missing key is reported with the misspelt one.
    let lines: Vec<_> = (0..2).map(|at| mistakes["mistakes"][at]["line"].as_u64()).collect();
    assert_eq!((status, lines), (Some(2), vec![Some(8), Some(9)]), "{err}");
    let (status, _, err) = check("", &[]);
    assert!(status == Some(2) && err.contains("no `vendors`"), "{err}");
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let root = host();
    let output = catalog(root.path(), &["check", "none.yaml"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("(invalid_catalog)") && text.contains("none.yaml"), "{text}");
}

#[test]
fn suggested_entries_match_the_host() {
    let root = host();
    let output = catalog(root.path(), &["suggest"]);
    assert!(output.status.success(), "{output:?}");
    fs::write(root.path().join("own.yaml"), &output.stdout).unwrap();
    let suggested = String::from_utf8(output.stdout).unwrap();
    snapbox::assert_data_eq!(suggested, snapbox::file!["catalog/suggested.yaml"]);
    let output = catalog(root.path(), &["check", "own.yaml", "--json"]);
    let survey: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{survey:#}");
    assert_eq!(survey["resources"].as_array().unwrap().len(), 4);
}
