//! The IOMMU: the firmware's tables, the kernel's units, and whether interrupts are remapped.

use model::doctor::{FirmwareTables, IommuDevice, Platform};

use super::{long_text, unseen};
use crate::interrupts::{self, INTERRUPTS};
use crate::root::Root;

const TABLES: &str = "sys/firmware/acpi/tables";
const UNITS: &str = "sys/class/iommu";

/// Reads the facts about the IOMMU.
pub fn read(root: &Root, platform: &mut Platform) {
    platform.firmware = firmware(root);
    // Without the directory there is no unit: the kernel creates the class with the first one.
    let units = root.names(UNITS).unwrap_or_default();
    platform.iommus = units
        .into_iter()
        .map(|name| IommuDevice { address_bits: address_bits(root, &name), name })
        .collect();
    platform.unsafe_interrupts = interrupts::allows_unsafe(root, "vfio_iommu_type1");
    platform.iommufd_unsafe_interrupts = interrupts::allows_unsafe(root, "iommufd");
    platform.device_nodes = device_nodes(root);
    match long_text(root, INTERRUPTS) {
        Ok(text) => platform.interrupt_remapping = interrupts::remapping(&text),
        Err(errno) => platform.unseen.push(unseen("interrupts", INTERRUPTS, errno)),
    }
}

/// Whether devices have nodes: vfio reserves device numbers for them when it is loaded (`vfio_cdev_init` in
/// drivers/vfio/device_cdev.c).
fn device_nodes(root: &Root) -> Option<bool> {
    let is_loaded = ["sys/class/vfio", "sys/class/vfio-dev", "sys/module/vfio"]
        .iter()
        .any(|path| root.exists(path));
    let devices = is_loaded.then(|| long_text(root, "proc/devices").ok()).flatten()?;
    Some(devices.lines().any(|line| line.trim_start().ends_with(" vfio-dev")))
}

fn firmware(root: &Root) -> FirmwareTables {
    let tables = root.names(TABLES);
    let has = |name: &str| tables.as_ref().is_ok_and(|names| names.iter().any(|one| one == name));
    FirmwareTables {
        seen: tables.is_ok(),
        dmar: has("DMAR"),
        ivrs: has("IVRS"),
        viot: has("VIOT"),
        iort: has("IORT"),
        uefi: root.exists("sys/firmware/efi"),
    }
}

/// Maximum Guest Address Width: bits 21 to 16 of the capability register, less one (Intel VT-d specification, 11.4.2).
fn address_bits(root: &Root, unit: &str) -> Option<u8> {
    let text = root.text(&format!("{UNITS}/{unit}/intel-iommu/cap")).ok()?;
    let cap = u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()?;
    u8::try_from((cap >> 16 & 0x3f) + 1).ok()
}
