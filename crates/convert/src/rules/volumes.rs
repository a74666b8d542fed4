//! Rules of volumes, disks and file systems (pkg/storage/admitters, vmi-create-admitter.go).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Found, Spec, join, short};
use crate::values::Below as _;

const DISKS: &str = "domain.devices.disks";
const FILESYSTEMS: &str = "domain.devices.filesystems";

/// Checks the volumes and disks as they are written.
pub fn check(spec: &Spec<'_>, found: &mut Found) {
    for (path, volume) in spec.items("volumes") {
        self::volume(spec, &path, volume, found);
    }
    for kind in ["serviceAccount", "downwardMetrics", "memoryDump"] {
        for (path, _) in spec.items("volumes").filter(|(_, volume)| volume.has(kind)).skip(1) {
            found.add(&path, format!("is a second {kind} volume"), "keep one of them");
        }
    }
    if !spec.value.list("utilityVolumes").is_empty() {
        let remedy = "remove them: KubeVirt accepts them for a running machine only";
        found.add(&spec.path("utilityVolumes"), "has volumes", remedy);
    }
    for (path, disk) in spec.items(DISKS) {
        self::disk(spec, &path, disk, found);
    }
    for (path, filesystem) in spec.items(FILESYSTEMS) {
        let name = filesystem.text("name");
        if !name.is_empty() && !spec.names("volumes", name) {
            let remedy = "give each filesystem the name of its volume";
            found.add(&path, format!("has no volume {}", short(name)), remedy);
        }
    }
    boot_order(spec, found);
    credentials(spec, found);
    acpi(spec, found);
}

fn volume(spec: &Spec<'_>, path: &str, volume: &Value, found: &mut Found) {
    let name = volume.text("name");
    let (disk, filesystem) = (spec.names(DISKS, name), spec.names(FILESYSTEMS, name));
    if let Some(inner) = volume.at("containerPath") {
        if disk || !filesystem {
            let remedy = "add a filesystem of its name to domain.devices.filesystems, and no disk";
            found.add(path, "is a containerPath, which only a filesystem can use", remedy);
        }
        let reserved = ["/var/run/kubevirt", "/var/run/libvirt"];
        if reserved.iter().any(|prefix| inner.text("path").starts_with(prefix)) {
            let what = "is a directory of the launcher";
            found.add(&format!("{path}.containerPath.path"), what, "use another path");
        }
    } else if !name.is_empty() && !disk && !filesystem && !needs_cluster(volume) {
        // pkg/util `SetDefaultVolumeDisk`
        let remedy = "KubeVirt attaches it as a disk; add a disk of its name to choose how";
        found.note(path, "is used by no disk or filesystem", remedy);
    }
    let capacity = volume.quantity("hostDisk.capacity");
    if volume.text("hostDisk.type") == "Disk" && capacity.is_some_and(|one| !one.is_zero()) {
        let remedy = "remove it, or use the type `DiskOrCreate`";
        found.add(&format!("{path}.hostDisk.capacity"), "is set for an existing disk", remedy);
    }
}

/// Whether `standalone` refuses the volume anyway.
fn needs_cluster(volume: &Value) -> bool {
    let kinds = ["dataVolume", "configMap", "secret", "serviceAccount", "memoryDump"];
    kinds.iter().any(|kind| volume.has(kind))
}

/// The way that a disk is attached, and its bus.
fn target(disk: &Value) -> (&'static str, &str) {
    let target = ["disk", "lun", "cdrom"].into_iter().find(|target| disk.has(target));
    let bus = target.map_or("", |target| disk.text(&join(target, "bus")));
    (target.unwrap_or("disk"), bus)
}

fn disk(spec: &Spec<'_>, path: &str, disk: &Value, found: &mut Found) {
    let name = disk.text("name");
    let volume = spec.value.list("volumes").iter().find(|volume| volume.text("name") == name);
    let (target, bus) = target(disk);
    // A CD drive may be empty.
    if volume.is_none() && !name.is_empty() && target != "cdrom" {
        let remedy = "give each disk the name of its volume";
        found.add(path, format!("has no volume {}", short(name)), remedy);
    }
    let Some(volume) = volume else { return };
    if target == "lun" && !volume.has("persistentVolumeClaim") && !volume.has("dataVolume") {
        let remedy = "use `disk`, or a persistentVolumeClaim";
        found.add(&format!("{path}.lun"), "has a volume that is not a block device", remedy);
    }
    let metrics = volume.has("downwardMetrics");
    if metrics && (target != "disk" || !matches!(bus, "" | "virtio")) {
        let remedy = "use `disk: {bus: virtio}`";
        found.add(path, "has a downwardMetrics volume, but is not a virtio disk", remedy);
    }
}

/// Checks the disks with the buses of preferences and defaults.
pub fn complete(spec: &Spec<'_>, found: &mut Found) {
    for (path, disk) in spec.items(DISKS) {
        let (target, bus) = target(disk);
        if target == "disk" && bus == "sata" && disk.switch("disk.readonly") == Some(true) {
            let remedy = "use the bus virtio or scsi, or a cdrom";
            found.add(&path, "is a read-only disk on sata, which has none", remedy);
        }
        if !disk.text("disk.pciAddress").is_empty() && bus != "virtio" {
            let what = format!("is set, but the bus is {bus}");
            found.add(&format!("{path}.disk.pciAddress"), what, "use the bus virtio");
        }
        if disk.switch("dedicatedIOThread") == Some(true) && bus != "virtio" {
            let what = format!("is set, but the bus is {bus}");
            found.add(&format!("{path}.dedicatedIOThread"), what, "use the bus virtio");
        }
        if disk.has("blockSize.custom") {
            block_size(&path, bus, disk, found);
        }
    }
}

fn block_size(path: &str, bus: &str, disk: &Value, found: &mut Found) {
    let matching = disk.has("blockSize.matchVolume");
    if matching && disk.switch("blockSize.matchVolume.enabled") != Some(false) {
        let remedy = "keep one of `custom` and `matchVolume`";
        found.add(&format!("{path}.blockSize"), "has two block sizes", remedy);
    }
    let size = |field: &str| disk.number(&format!("blockSize.custom.{field}"));
    let (logical, physical) = (size("logical"), size("physical"));
    let custom = format!("{path}.blockSize.custom");
    if logical > physical {
        let what = format!("has the logical size {logical} and the physical size {physical}");
        found.add(&custom, what, "use a logical size of at most the physical size");
    }
    if bus == "sata" && logical != 512 {
        let what = format!("has the logical size {logical}, but the bus is sata");
        found.add(&custom, what, "use a logical size of 512, or the bus virtio or scsi");
    }
    if logical > 0 && size("discardGranularity") % logical != 0 {
        let remedy = "use a multiple of the logical size";
        found.add(&format!("{custom}.discardGranularity"), "does not fit the logical size", remedy);
    }
}

/// Disks and interfaces share one boot order.
fn boot_order(spec: &Spec<'_>, found: &mut Found) {
    let mut seen = BTreeSet::new();
    for (path, device) in spec.items(DISKS).chain(spec.items("domain.devices.interfaces")) {
        let order = device.number("bootOrder");
        if order > 0 && !seen.insert(order) {
            let what = format!("is {order}, as another device's");
            let remedy = "give each disk and interface its own number";
            found.add(&format!("{path}.bootOrder"), what, remedy);
        }
    }
}

/// Cloud-init carries keys only if the machine has such a volume.
fn credentials(spec: &Spec<'_>, found: &mut Found) {
    for (path, credential) in spec.items("accessCredentials") {
        for (method, volume) in
            [("noCloud", "cloudInitNoCloud"), ("configDrive", "cloudInitConfigDrive")]
        {
            let wanted = credential.has(&format!("sshPublicKey.propagationMethod.{method}"));
            if wanted && !spec.value.list("volumes").iter().any(|one| one.has(volume)) {
                let what = format!("needs a {volume} volume");
                let remedy = "add one, or use the method qemuGuestAgent";
                found.add(&format!("{path}.sshPublicKey.propagationMethod.{method}"), what, remedy);
            }
        }
    }
}

fn acpi(spec: &Spec<'_>, found: &mut Found) {
    for field in ["slicNameRef", "msdmNameRef"] {
        let path = format!("domain.firmware.acpi.{field}");
        let name = spec.value.text(&path);
        if !name.is_empty() && !spec.names("volumes", name) {
            let what = format!("is \"{}\", which is no volume", short(name));
            found.add(&spec.path(&path), what, "use the name of a secret volume");
        }
    }
}
