//! The IOMMU: in the firmware, in the kernel, and its groups.

use super::super::options::Listed;
use super::super::remedy::{kernel_option, other_kernel_option, without_kernel_option};
use super::super::{Finding, Patient, Platform, Remedy};
use super::{good, impossible, note, warning};
use crate::{Inventory, VIRTUAL_IOMMU};

const NEEDED: &str = "no device can be isolated from the host's memory, so none can be handed over";

/// Whether a word of such a list switches off: the kernel compares the beginning (`intel_iommu_setup`,
/// `parse_amd_iommu_options`, `iommu_setup`).
fn switches_off(word: &str) -> bool {
    word.starts_with("off")
}

/// The options that disable the IOMMU, one for each place on the command line. `amd_iommu=` and `iommu=` have no word that
/// takes `off` back; of `intel_iommu=`, the last of `on` and `off` counts.
fn off(platform: &Platform) -> Vec<Listed<'_>> {
    let mut found: Vec<Listed<'_>> = Vec::new();
    if asked(platform) != Some(true) {
        found.extend(platform.listed("intel_iommu").filter(|one| switches_off(one.word)));
    }
    for name in ["amd_iommu", "iommu"] {
        found.extend(platform.listed(name).filter(|one| switches_off(one.word)));
    }
    found.dedup_by_key(|one| one.option);
    found
}

/// Whether `intel_iommu=` switches the IOMMU on or off; `None` if it says neither.
fn asked(platform: &Platform) -> Option<bool> {
    let words = platform.listed("intel_iommu").map(|one| one.word);
    let says = |word: &str| match word {
        word if word.starts_with("on") => Some(true),
        word if switches_off(word) => Some(false),
        _ => None,
    };
    words.filter_map(says).last()
}

/// Takes a word out of each of these options, and the option if no other word is left.
fn without(platform: &Platform, options: &[Listed<'_>], is: impl Fn(&str) -> bool) -> Remedy {
    let remedies = options.iter().map(|one| match one.without(&is) {
        Some(rest) => other_kernel_option(platform, one.option, &rest),
        None => without_kernel_option(platform, one.option),
    });
    remedies.reduce(Remedy::and).unwrap_or_default()
}

/// Whether the kernel runs an IOMMU.
pub fn is_on(patient: Patient<'_>) -> bool {
    let Patient { inventory, platform, .. } = patient;
    // Under Xen, whatever is in /sys/class/iommu is the hypervisor's.
    !platform.xen_dom0
        && !inventory.groups.is_empty()
        && (inventory.vfio.iommu || !platform.iommus.is_empty())
}

pub fn on(patient: Patient<'_>) -> Vec<Finding> {
    let Patient { inventory, platform, .. } = patient;
    if is_on(patient) {
        let read = format!("{} and {}", units(platform), groups(inventory));
        return vec![good(read, "devices can be isolated from the host's memory")];
    }
    if platform.xen_dom0 {
        return vec![under_xen()];
    }
    let off = off(platform);
    if !off.is_empty() {
        let options: Vec<&str> = off.iter().map(|one| one.option).collect();
        let read =
            format!("/proc/cmdline has {}; there are no IOMMU groups", options.join(" and "));
        let remedy = without(platform, &off, switches_off);
        return vec![impossible(read, NEEDED).with_remedy(remedy)];
    }
    vec![match tables(platform) {
        Some(tables) => by_kernel(platform, tables),
        None => by_firmware(platform),
    }]
}

/// Xen keeps the IOMMU for itself: dom0's kernel has no groups, whatever its command line.
fn under_xen() -> Finding {
    let read = "this is a Xen dom0 (control_d in /proc/xen/capabilities, or /sys/hypervisor)";
    let meaning = "the hypervisor has the IOMMU, and Linux gets none of it: VFIO is not possible under Xen, so no device can \
                   be handed over";
    impossible(read, meaning).with_remedy(Remedy::words(
        "boot this host without Xen; or stay with Xen's own way: `xl pci-assignable-add ADDRESS` binds a device to \
         xen-pciback, and `pci = [ \"ADDRESS\" ]` in a domain's configuration passes it through. There the IOMMU is an \
         option of the hypervisor (`iommu=1`, in GRUB_CMDLINE_XEN_DEFAULT), not of dom0's kernel",
    ))
}

/// The firmware describes an IOMMU, but the kernel uses none.
fn by_kernel(platform: &Platform, tables: &str) -> Finding {
    if platform.firmware.dmar && asked(platform).is_none() {
        let read = format!(
            "the firmware has {tables}; /proc/cmdline has no intel_iommu=on; there are no IOMMU groups"
        );
        return impossible(read, NEEDED).with_remedy(kernel_option(platform, "intel_iommu=on"));
    }
    // AMD's is on by default: no option enables it (drivers/iommu/amd/init.c).
    let read = format!("the firmware has {tables}; there are no IOMMU groups");
    let remedy = "run `dmesg | grep -i -e DMAR -e AMD-Vi -e iommu` for the cause: the tables may be broken, or the \
                  kernel was built without the driver";
    impossible(read, NEEDED).with_remedy(Remedy::words(remedy))
}

/// The firmware describes no IOMMU.
fn by_firmware(platform: &Platform) -> Finding {
    let seen = platform.firmware.seen;
    let read = if seen {
        "no DMAR, IVRS or VIOT among /sys/firmware/acpi/tables; there are no IOMMU groups"
    } else {
        "there are no IOMMU groups, and no /sys/firmware/acpi/tables that could show why"
    };
    let remedy = if platform.virtual_machine {
        VIRTUAL_IOMMU
    } else if platform.cpu.vendor == "AuthenticAMD" {
        "enable IOMMU (AMD-Vi) in the firmware setup: Enabled, not Auto"
    } else if platform.cpu.vendor == "GenuineIntel" {
        "enable VT-d (Intel VT for Directed I/O) in the firmware setup"
    } else {
        "enable the IOMMU (SMMU) in the firmware setup"
    };
    let remedy = Remedy::words(remedy);
    // On Intel, the kernel also needs the option once the firmware has the table.
    let remedy = if platform.cpu.vendor == "GenuineIntel" && asked(platform).is_none() {
        remedy.and(kernel_option(platform, "intel_iommu=on"))
    } else {
        remedy
    };
    impossible(read, NEEDED).with_remedy(remedy)
}

pub fn mode(patient: Patient<'_>) -> Vec<Finding> {
    let Patient { inventory, platform, .. } = patient;
    let types = inventory.groups.values().filter_map(|group| group.domain_type.as_deref());
    let types: Vec<&str> = types.collect();
    if !is_on(patient) || types.is_empty() {
        return Vec::new();
    }
    let translated = types.iter().filter(|kind| kind.starts_with("DMA")).count();
    if translated == 0 {
        let meaning = "the host's own devices access memory directly, as fast as without an IOMMU";
        return vec![good("no IOMMU group is of type DMA", meaning)];
    }
    let read = if translated == types.len() {
        "the IOMMU groups are of type DMA".to_owned()
    } else {
        format!("{translated} of {} IOMMU groups are of type DMA", types.len())
    };
    let meaning = "the host's own devices go through the IOMMU, which slows fast networks and drives a little; devices \
                   in machines are isolated either way";
    let finding = note(read, meaning);
    let asked = platform.listed("iommu").any(|one| one.word == "pt")
        || platform.listed("iommu.passthrough").any(|one| one.word == "1");
    if asked {
        return vec![finding];
    }
    vec![finding.with_remedy(kernel_option(platform, "iommu=pt"))]
}

pub fn acs_override(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    let option = platform.cmdline_words().find(|word| word.starts_with("pcie_acs_override="));
    let Some(option) = option else {
        if platform.cmdline.is_none() {
            return Vec::new();
        }
        let meaning = "IOMMU groups show what the hardware isolates";
        return vec![good("/proc/cmdline has no pcie_acs_override=", meaning)];
    };
    let meaning = "groups look smaller than they are: devices in different groups can still reach each other, so a \
                   machine can reach another machine's device (only patched kernels have this option)";
    let remedy = without_kernel_option(platform, "pcie_acs_override");
    vec![warning(format!("/proc/cmdline has {option}"), meaning).with_remedy(remedy)]
}

fn units(platform: &Platform) -> String {
    let names: Vec<&str> = platform.iommus.iter().map(|unit| unit.name.as_str()).collect();
    match names.as_slice() {
        [] => "/sys/class/iommu is there".to_owned(),
        [name] => format!("/sys/class/iommu has {name}"),
        [first, .., last] => {
            format!("/sys/class/iommu has {} units, {first} to {last},", names.len())
        }
    }
}

fn groups(inventory: &Inventory) -> String {
    match inventory.groups.len() {
        1 => "/sys/kernel/iommu_groups has one group".to_owned(),
        count => format!("/sys/kernel/iommu_groups has {count} groups"),
    }
}

/// The firmware's IOMMU table.
fn tables(platform: &Platform) -> Option<&'static str> {
    let firmware = &platform.firmware;
    [
        (firmware.dmar, "DMAR (Intel VT-d)"),
        (firmware.ivrs, "IVRS (AMD-Vi)"),
        (firmware.viot, "VIOT (virtio-iommu)"),
        (firmware.iort, "IORT (Arm SMMU)"),
    ]
    .into_iter()
    .find_map(|(there, name)| there.then_some(name))
}
