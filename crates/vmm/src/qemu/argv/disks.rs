//! The disks besides the root disk. The VMM inherits their files as open descriptors, in a set for each disk (`-add-fd`):
//! its user cannot open them, and no path of the host is on the command line.

use std::fmt;

use model::{DiskBus, DiskFile, MachineSpec};
use serde_json::{Value, json};

use super::{Line, Ports, function_id, insert, port_id};
use crate::process::{FD, OpenFile};

/// The id of the SCSI controller.
const SCSI: &str = "scsi0";

/// The id of a disk, such as `data0`.
pub fn disk_id(number: usize) -> String {
    format!("data{number}")
}

/// The id of a machine's disk: after its port, if it is behind one for devices.
pub fn id_of(number: usize, file: &DiskFile) -> String {
    file.disk.port.map_or_else(|| disk_id(number), |port| function_id(port, 0))
}

/// The set of descriptors of the disk behind a port for devices. The others are numbered from 0.
pub const fn disk_set(port: u32) -> u32 {
    1000u32.saturating_add(port)
}

/// The node of the disk behind a port for devices.
pub fn disk_node(port: u32) -> String {
    format!("{}disk", port_id(port))
}

/// A disk behind a port for devices.
pub fn disk_at_port(port: u32, file: &DiskFile) -> Value {
    let driver = if file.disk.bus == DiskBus::Nvme { "nvme" } else { "virtio-blk-pci" };
    let mut device = json!({
        "driver": driver,
        "id": function_id(port, 0),
        "drive": disk_node(port),
        "serial": file.disk.serial,
        "bus": port_id(port),
    });
    sectors(&mut device, file);
    device
}

/// The files that the VMM inherits.
pub fn disk_files(spec: &MachineSpec) -> Vec<OpenFile> {
    let file = |(number, file): (usize, &DiskFile)| {
        let set =
            file.disk.port.map_or_else(|| number.to_string(), |port| disk_set(port).to_string());
        OpenFile {
            path: file.path.clone(),
            block: file.block.map(|block| block.number),
            writable: !file.disk.read_only,
            vmm_args: vec!["-add-fd".into(), format!("fd={FD},set={set}")],
        }
    };
    spec.disks.iter().enumerate().map(file).collect()
}

/// The place of the root disk in the firmware's order: after the CD-ROMs, by which a system is installed or mended.
pub fn root_boot_index(spec: &MachineSpec) -> usize {
    cdroms(spec) + 1
}

/// The place of a disk in the firmware's order, from 1 on, if it is booted: CD-ROMs first; the others only if there is no
/// root disk. A kernel that is loaded directly has the place 0, and nothing else is booted.
fn boot_index(spec: &MachineSpec, number: usize) -> Option<usize> {
    let disk = &spec.disks.get(number)?.disk;
    if spec.kernel.is_some() || (!disk.is_cdrom() && spec.disk.is_some()) {
        return None;
    }
    let before = spec.disks.iter().take(number);
    let same = before.filter(|other| other.disk.is_cdrom() == disk.is_cdrom()).count();
    Some(1 + same + if disk.is_cdrom() { 0 } else { cdroms(spec) })
}

fn cdroms(spec: &MachineSpec) -> usize {
    spec.disks.iter().filter(|file| file.disk.is_cdrom()).count()
}

/// The disks and CD-ROMs.
pub fn disks(line: &mut Line, ports: &mut Ports, spec: &MachineSpec) {
    let mut sata = 0;
    for (number, file) in spec.disks.iter().enumerate() {
        if let Some(port) = file.disk.port {
            line.option("-blockdev", disk_backend(&disk_node(port), disk_set(port), file));
            let mut device = disk_at_port(port, file);
            if let Some(place) = boot_index(spec, number) {
                insert(&mut device, "bootindex", json!(place));
            }
            ports.device(device);
            continue;
        }
        let id = disk_id(number);
        line.option("-blockdev", disk_backend(&id, number, file));
        let mut device = json!({"id": id, "drive": id, "serial": file.disk.serial});
        match file.disk.bus {
            DiskBus::Virtio => {
                insert(&mut device, "driver", json!("virtio-blk-pci"));
                insert(&mut device, "bus", json!(ports.port(&format!("{id}-port"))));
            }
            DiskBus::Nvme => {
                insert(&mut device, "driver", json!("nvme"));
                insert(&mut device, "bus", json!(ports.port(&format!("{id}-port"))));
            }
            DiskBus::Scsi => {
                scsi_controller(ports);
                insert(&mut device, "driver", json!("scsi-hd"));
                insert(&mut device, "bus", json!(format!("{SCSI}.0")));
            }
            DiskBus::Sata => {
                // The ports of the controller that is part of the machine.
                insert(&mut device, "driver", json!("ide-hd"));
                insert(&mut device, "bus", json!(format!("ide.{sata}")));
                sata += 1;
            }
        }
        if file.disk.is_cdrom() {
            insert(&mut device, "driver", json!("ide-cd"));
        }
        sectors(&mut device, file);
        if let Some(place) = boot_index(spec, number) {
            insert(&mut device, "bootindex", json!(place));
        }
        ports.device(device);
    }
}

/// The size of a disk's blocks: a partition table is where the blocks of this size are.
fn sectors(device: &mut Value, file: &DiskFile) {
    if let Some(sector) = file.block.map(|block| block.sector).filter(|sector| *sector != 512) {
        insert(device, "logical_block_size", json!(sector));
        insert(device, "physical_block_size", json!(sector));
    }
}

/// What is behind a disk: a node over a set of descriptors. The format is explicit, and a volume has no other file behind it.
pub fn disk_backend(node: &str, set: impl fmt::Display, file: &DiskFile) -> Value {
    let driver = if file.block.is_some() { "host_device" } else { "file" };
    let mut backend = json!({
        "node-name": node,
        "driver": file.format.as_str(),
        "read-only": file.disk.read_only,
        "file": {
            "driver": driver,
            "filename": format!("/dev/fdset/{set}"),
            "read-only": file.disk.read_only,
        },
    });
    if !file.disk.read_only {
        insert(&mut backend, "discard", json!("unmap"));
    }
    if file.format == model::DiskFormat::Qcow2 {
        insert(&mut backend, "backing", json!(null));
    }
    backend
}

/// One controller for all SCSI disks.
fn scsi_controller(ports: &mut Ports) {
    if !ports.has(SCSI) {
        let bus = ports.port("scsi-port");
        ports.device(json!({"driver": "virtio-scsi-pci", "id": SCSI, "bus": bus}));
    }
}
