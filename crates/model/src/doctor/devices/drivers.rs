//! The drivers of the assembly: the host's own, those that another tool set, and vfio's variants.

use super::{Case, Finding, Severity, about, listed, mended};
use crate::doctor::{Remedy, remedy};
use crate::{Function, Kind};

/// Drivers that keep a device from the host's own driver and give it to nobody.
const STUBS: [&str; 2] = ["pci-stub", "pciback"];

/// Which drivers take the assembly when the host boots, and how it is kept from them.
pub fn native(case: &Case<'_>) -> Vec<Finding> {
    let bound: Vec<&Function> =
        case.taken().filter(|function| function.driver.is_some() && !function.on_vfio()).collect();
    if bound.is_empty() {
        let meaning = "nothing has to let go of it before a hand-over";
        return vec![case.says(
            "native-driver",
            Severity::Good,
            "no driver of the host's has it",
            meaning,
        )];
    }
    // A VF is made while the host runs, by its physical function's driver: there is nothing to reserve at boot. Nor is
    // there where the driver is what splits the device.
    let parted =
        case.head.physical_function.is_some() || bound.iter().any(|function| in_parts(function));
    if parted || !case.can_go() {
        return Vec::new();
    }
    let read = listed(bound.iter().filter_map(|function| {
        Some(format!("{} is on {}", function.address, function.driver.as_deref()?))
    }));
    let meaning = format!(
        "Handover takes it from {} for a machine and gives it back after it; a device that is only for machines is \
         better reserved, {}",
        if bound.len() == 1 { "this driver" } else { "these drivers" },
        risk(case)
    );
    let finding = case.says("native-driver", Severity::Note, read, meaning);
    vec![Finding { remedy: Some(reserve(case)), ..finding }]
}

/// Keeps the whole assembly for machines, unless the host itself needs a part of it: a host whose disk or network is
/// reserved does not come up again.
fn reserve(case: &Case<'_>) -> Remedy {
    let members: Vec<&Function> = case.taken().collect();
    let needed = |function: &&&Function| {
        let mut holders = case.patient.holders.iter();
        holders.any(|holder| holder.address == function.address && holder.pid.is_none())
    };
    let host: Vec<_> = members.iter().filter(needed).map(|function| function.address).collect();
    if host.is_empty() {
        return remedy::boot_list(case.patient.platform, &members);
    }
    Remedy::words(format!(
        "do not reserve it while the host itself needs {}: it would not come up again",
        listed(host)
    ))
}

/// Whether the driver splits the device: into virtual functions or mediated devices.
fn in_parts(function: &Function) -> bool {
    let types = function.detail.as_deref().is_some_and(|detail| !detail.mdev_types.is_empty());
    types || !function.virtual_functions().is_empty() || !function.mdevs.is_empty()
}

/// Why one would reserve the device rather than take it each time.
fn risk(case: &Case<'_>) -> &'static str {
    let on = |names: &[&str]| {
        case.taken().any(|function| {
            function.driver.as_deref().is_some_and(|driver| names.contains(&driver))
        })
    };
    if on(&["nvidia"]) {
        "for its driver can wait for ever for a program that holds the GPU"
    } else if on(&["nouveau", "amdgpu", "radeon", "i915", "xe"]) {
        "for its driver shows the host's console and desktop on it, and does not always survive its going"
    } else if case.head.kind() == Kind::Nvme {
        "so that the host never mounts or assembles what is on it"
    } else {
        "so that the host never starts to use it"
    }
}

/// What another tool, or a person, has set for the drivers of the assembly.
pub fn reserved(case: &Case<'_>) -> Vec<Finding> {
    case.taken().filter_map(|function| set_for(case, function)).collect()
}

fn set_for(case: &Case<'_>, function: &Function) -> Option<Finding> {
    let address = function.address;
    let set = function.detail.as_deref().and_then(|detail| detail.driver_override.as_deref());
    let finding = |severity, read, meaning: &str| {
        Some(about(address, "driver-override", severity, read, meaning))
    };
    let driver = function.driver.as_deref();
    if driver.is_some_and(|driver| STUBS.contains(&driver)) {
        let read = format!("{address} is on {}", driver.unwrap_or_default());
        return finding(
            Severity::Note,
            read,
            "it is kept from the host's driver; Handover takes it from there",
        );
    }
    match set {
        Some(set) if crate::is_vfio(set, &function.vfio_driver) => {
            let read = format!("driver_override of {address} is {set}");
            let meaning = if function.on_vfio() {
                "it is reserved for machines, by driverctl or the like; Handover uses it so, and leaves it so"
            } else {
                "it is reserved for machines, but its driver is another: the override acts at the next probe only"
            };
            finding(Severity::Note, read, meaning)
        }
        Some(set) => {
            let read = format!("driver_override of {address} is {set}");
            let meaning = "another tool binds it to this driver only; after a hand-over it has this override again";
            finding(Severity::Warning, read, meaning)
        }
        None if function.on_vfio() => Some(bound_to_vfio(case, function)),
        None => None,
    }
}

/// On vfio without an override: by id, by hand, or by another tool.
fn bound_to_vfio(case: &Case<'_>, function: &Function) -> Finding {
    let Function { address, vendor, device, .. } = function;
    let read = format!("{address} is on {}", function.driver.as_deref().unwrap_or("vfio-pci"));
    let id = format!("{vendor}:{device}");
    let line = case.patient.platform.cmdline.as_deref().unwrap_or_default();
    let by_id = line
        .split_whitespace()
        .filter_map(|word| {
            word.strip_prefix("vfio-pci.ids=").or_else(|| word.strip_prefix("vfio_pci.ids="))
        })
        .any(|ids| ids.split(',').any(|other| other.eq_ignore_ascii_case(&id)));
    if by_id {
        let read = format!("{read}, by vfio-pci.ids= on the kernel's command line");
        let meaning = "every device with this id is taken at boot, also one that the host needs; Handover uses it as it is";
        let finding = about(*address, "driver-override", Severity::Note, read, meaning);
        return Finding { remedy: Some(reserve(case)), ..finding };
    }
    let meaning = "it was bound by hand, by a configuration by id, or by another tool; Handover uses it as it is, and \
                   leaves it on vfio after a hand-over";
    about(*address, "driver-override", Severity::Note, read, meaning)
}

/// Drivers made for one device (mlx5_vfio_pci, nvgrace_gpu_vfio_pci) can do more than vfio-pci: live migration, memory
/// that is coherent with the host.
pub fn variant(case: &Case<'_>) -> Vec<Finding> {
    case.guests()
        .filter(|function| function.vfio_driver != "vfio-pci")
        .map(|f| made_for(case, f))
        .collect()
}

fn made_for(case: &Case<'_>, function: &Function) -> Finding {
    let address = function.address;
    let best = function.vfio_driver.as_str();
    let module = best.replace('-', "_");
    if function.driver.as_deref() == Some("vfio-pci") {
        let read = format!("{address} is on vfio-pci; {best} is made for it");
        let meaning = "the machine does without what the variant can do, such as live migration";
        let finding = about(address, "vfio-variant", Severity::Warning, read, meaning);
        let words = "take it off vfio-pci; Handover then chooses the variant by itself";
        return mended(
            finding,
            words,
            vec![format!("echo {address} > /sys/bus/pci/drivers/vfio-pci/unbind")],
        );
    }
    let loaded = case.patient.platform.modules.get(&module).is_some_and(|module| module.loaded);
    let read = format!("{best} is made for {address}");
    let meaning = if loaded {
        "the module is loaded, and the hand-over uses it"
    } else {
        "the hand-over loads the module and uses it"
    };
    about(address, "vfio-variant", Severity::Good, read, meaning)
}
