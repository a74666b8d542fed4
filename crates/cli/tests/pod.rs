//! `handover pod` as a person meets it, on made-up hosts.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use insta::assert_snapshot;
use tempfile::TempDir;

/// A GPU of a made-up host: address, vendor and device, driver, NUMA node, and the number of its nodes.
type Card = (&'static str, &'static str, &'static str, &'static str, u32, u32);

/// Two NVIDIA and two AMD GPUs in use by nobody, one more on each NUMA node that is on vfio, in no order.
const CARDS: [Card; 6] = [
    ("0000:01:00.0", "10de", "1b38", "nvidia", 0, 1),
    ("0000:41:00.0", "10de", "1b38", "nvidia", 1, 0),
    ("0000:42:00.0", "10de", "20b0", "nvidia", 1, 2),
    ("0000:43:00.0", "1002", "744c", "amdgpu", 1, 3),
    ("0000:02:00.0", "10de", "1b38", "vfio-pci", 0, 12),
    ("0000:03:00.0", "8086", "10fb", "vfio-pci", 0, 13),
];

const PCI_IDS: &str = "10de  NVIDIA Corporation\n\t1b38  GP102GL [Tesla P40]\n\t20b0  GA100 [A100 SXM4 40GB]\n\
1002  Advanced Micro Devices, Inc. [AMD/ATI]\n\t744c  Navi 31 [Radeon RX 7900 XTX]\n\
8086  Intel Corporation\n\t10fb  82599ES 10-Gigabit SFI/SFP+ Network Connection\n";

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(path: &Path, target: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn card(root: &Path, (address, vendor, device, driver, node, number): Card) {
    let class = if vendor == "8086" { "0x020000" } else { "0x030000" };
    let folder = root.join("sys/devices/pci0000:00").join(address);
    for (name, text) in [
        ("vendor", format!("0x{vendor}\n")),
        ("device", format!("0x{device}\n")),
        ("class", format!("{class}\n")),
        ("revision", "0x00\n".to_owned()),
        ("subsystem_vendor", "0x0000\n".to_owned()),
        ("subsystem_device", "0x0000\n".to_owned()),
        ("numa_node", format!("{node}\n")),
    ] {
        write(&folder.join(name), &text);
    }
    link(&folder.join("driver"), &format!("../../../bus/pci/drivers/{driver}"));
    let below = format!("../../devices/pci0000:00/{address}");
    link(&root.join("sys/bus/pci/devices").join(address), &format!("../{below}"));
    let group = format!("sys/kernel/iommu_groups/{number}");
    write(&root.join(&group).join("type"), "DMA\n");
    link(&folder.join("iommu_group"), &format!("../../../kernel/iommu_groups/{number}"));
    link(
        &root.join(&group).join("devices").join(address),
        &format!("../../../../devices/pci0000:00/{address}"),
    );
    match driver {
        "nvidia" => {
            let file = root.join("proc/driver/nvidia/gpus").join(address).join("information");
            write(&file, &format!("Model: \t\t Tesla\nDevice Minor: \t {number}\n"));
        }
        "amdgpu" => {
            for (minor, name) in [
                (number, format!("card{number}")),
                (128 + number, format!("renderD{}", 128 + number)),
            ] {
                link(
                    &root.join(format!("sys/dev/char/226:{minor}")),
                    &format!("{below}/drm/{name}"),
                );
            }
        }
        _ => link(
            &root.join(format!("sys/dev/char/240:{number}")),
            &format!("../../devices/virtual/vfio/{number}"),
        ),
    }
}

fn host() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    CARDS.into_iter().for_each(|one| card(root.path(), one));
    fs::create_dir_all(at("sys/class/iommu/dmar0")).unwrap();
    for node in 0..2 {
        let folder = at("sys/devices/system/node").join(format!("node{node}"));
        write(&folder.join("cpulist"), &format!("{}-{}\n", node * 8, node * 8 + 7));
        write(&folder.join("distance"), if node == 0 { "10 21\n" } else { "21 10\n" });
    }
    write(&at("usr/share/misc/pci.ids"), PCI_IDS);
    write(&at("proc/sys/kernel/osrelease"), "6.12.0\n");
    root
}

fn machine(devices: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {{name: web}}\nspec:\n  template:\n    spec:\n      \
         domain: {{memory: {{guest: 1Gi}}, devices: {{{devices}}}}}\n"
    )
}

fn gpus(names: &[&str]) -> String {
    let one = |(number, name): (usize, &&str)| format!("{{name: gpu{number}, deviceName: {name}}}");
    let all: Vec<String> = names.iter().enumerate().map(one).collect();
    machine(&format!("gpus: [{}]", all.join(", ")))
}

fn pod(text: &str, host: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(["pod", "-", "--host"]).arg(host).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    child.stdin = None;
    child.wait_with_output().unwrap()
}

/// What is said, where it works.
fn explained(text: &str, more: &[&str]) -> String {
    let host = host();
    let output = pod(text, host.path(), &[more, &["--explain"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(output.stdout.starts_with(b"apiVersion: v1\n"));
    said
}

/// What is said, where it does not: nothing is printed then.
fn refused(text: &str, more: &[&str]) -> String {
    let host = host();
    let output = pod(text, host.path(), more);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn gpus_by_the_nodes_that_they_really_have() {
    // The A100 is on node 1, and so is the P40 that goes with it; each has its own number.
    assert_snapshot!(explained(&gpus(&["nvidia.com/TESLA_P40", "nvidia.com/A100"]), &[]));
    // Vendors are told apart, whatever their order.
    assert_snapshot!(explained(&gpus(&["amd.com/gpu", "nvidia.com/GPU"]), &[]));
}

#[test]
fn what_is_on_vfio_goes_by_vfio() {
    let text = machine(
        "gpus: [{name: gpu0, deviceName: nvidia.com/TESLA_P40}], hostDevices: [{name: nic, deviceName: example.com/nic}]",
    );
    assert_snapshot!(explained(&text, &["--resource", "example.com/nic=8086:10fb"]));
}

#[test]
fn what_cannot_be_had_is_an_error_before_anything_is_printed() {
    assert_snapshot!(refused(&gpus(&["nvidia.com/TESLA_V100"]), &[]));
    assert_snapshot!(refused(&gpus(&["amd.com/gpu", "amd.com/gpu"]), &[]));
    assert_snapshot!(refused(&gpus(&["amd.com/gpu"]), &["--devices=vfio"]));
    assert_snapshot!(refused(
        &machine("hostDevices: [{name: a, deviceName: b.com/c}]"),
        &["--devices=vfio"]
    ));
    let volume = machine("")
        .replace("domain:", "volumes: [{name: a, dataVolume: {name: b}}]\n      domain:");
    assert_snapshot!(refused(&volume, &[]));
}

#[test]
fn missing_devices_can_be_allowed() {
    let host = host();
    let output = pod(&gpus(&["nvidia.com/TESLA_V100"]), host.path(), &["--allow-missing"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("warning: gpu gpu0 asks for"), "{said}");
}

#[test]
fn two_machines_get_two_gpus_and_json_is_yaml() {
    let host = host();
    let text =
        format!("{}---\n{}", gpus(&["nvidia.com/TESLA_P40"]), gpus(&["nvidia.com/TESLA_P40"]));
    let text = text.replacen("name: web", "name: db", 1);
    let output = pod(&text, host.path(), &["--output", "json", "--devices", "nodes"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let pods: Vec<serde_json::Value> =
        text.split("---\n").map(|one| serde_json::from_str(one).unwrap()).collect();
    let gpu = |pod: &serde_json::Value| {
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
        let paths = mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap());
        paths
            .filter(|path| path.starts_with("/dev/nvidia") && path.len() == 12)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut given = [gpu(&pods[0]), gpu(&pods[1])].concat();
    given.sort();
    assert_eq!(given, ["/dev/nvidia0", "/dev/nvidia1"]);
}

#[test]
fn no_host_at_all() {
    let output = pod(
        &gpus(&["amd.com/gpu", "nvidia.com/GPU", "x.org/card"]),
        Path::new("none"),
        &["--explain"],
    );
    assert!(output.status.success());
    assert_snapshot!(String::from_utf8(output.stderr).unwrap());
    let output = pod(&gpus(&["amd.com/gpu"]), Path::new("none"), &["--mount-devices=false"]);
    assert!(!String::from_utf8(output.stdout).unwrap().contains("/dev/"));
}
