//! A made-up host with GPUs, on their own drivers and on vfio.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

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

/// Writes a file, with the directories above it.
pub fn write(path: &Path, text: &str) {
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

/// All of it, as a tree.
pub fn host() -> TempDir {
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
