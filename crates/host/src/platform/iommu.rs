//! The IOMMU: the firmware's tables, the kernel's units, and whether interrupts are remapped.

use model::doctor::{FirmwareTables, IommuDevice, Platform};

use super::{long_text, unseen};
use crate::root::Root;

const TABLES: &str = "sys/firmware/acpi/tables";
const UNITS: &str = "sys/class/iommu";
const INTERRUPTS: &str = "proc/interrupts";

/// Reads the facts about the IOMMU.
pub fn read(root: &Root, platform: &mut Platform) {
    platform.firmware = firmware(root);
    // Without the directory there is no unit: the kernel creates the class with the first one.
    let units = root.names(UNITS).unwrap_or_default();
    platform.iommus = units
        .into_iter()
        .map(|name| IommuDevice { address_bits: address_bits(root, &name), name })
        .collect();
    platform.unsafe_interrupts = allows_unsafe_interrupts(root, "vfio_iommu_type1");
    platform.iommufd_unsafe_interrupts = allows_unsafe_interrupts(root, "iommufd");
    match long_text(root, INTERRUPTS) {
        Ok(text) => platform.interrupt_remapping = remapping(&text),
        Err(errno) => platform.unseen.push(unseen("interrupts", INTERRUPTS, errno)),
    }
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

/// Whether interrupt chips are named `IR-...` (`irq_chip.name` in drivers/iommu/{intel,amd}); `None` if there are no
/// x86 chips.
fn remapping(text: &str) -> Option<bool> {
    let chips = || text.split_ascii_whitespace();
    if chips().any(|word| word.starts_with("IR-")) {
        return Some(true);
    }
    chips().any(|word| word.contains("PCI-MSI") || word.starts_with("IO-APIC")).then_some(false)
}

fn allows_unsafe_interrupts(root: &Root, module: &str) -> Option<bool> {
    flag(&root.text(&format!("sys/module/{module}/parameters/allow_unsafe_interrupts")).ok()?)
}

/// Parses a boolean kernel parameter.
fn flag(text: &str) -> Option<bool> {
    match text {
        "Y" | "1" => Some(true),
        "N" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_remapped_where_their_chip_says_so() {
        let with = " 24:  0  IR-PCI-MSI-0000:00:1f.2  0-edge  ahci[0000:00:1f.2]";
        let without = "  1:  9  IO-APIC   1-edge  i8042\n 24: 0 PCI-MSIX-0000:00:04.0 0-edge nvme";
        assert_eq!(remapping(with), Some(true));
        assert_eq!(remapping(without), Some(false));
        assert_eq!(remapping(" 11:  1  GICv3  27 Level  arch_timer"), None);
        assert_eq!(remapping(""), None);
    }
}
