//! The drivers of the assembly: native drivers, drivers set by other tools, and vfio variants.

use super::{Case, Finding, Severity, about, listed, with_remedy};
use crate::doctor::{Remedy, remedy};
use crate::{Function, Kind};

/// Drivers that only keep a device from its native driver.
const STUBS: [&str; 2] = ["pci-stub", "pciback"];

/// The native drivers that are bound to the assembly, and how to keep it from them at boot.
pub fn native(case: &Case<'_>) -> Vec<Finding> {
    let bound: Vec<&Function> =
        case.taken().filter(|function| function.driver.is_some() && !function.on_vfio()).collect();
    if bound.is_empty() {
        let meaning = "no driver has to be unbound before a hand-over";
        return vec![case.finding(
            "native-driver",
            Severity::Good,
            "no native driver is bound to it",
            meaning,
        )];
    }
    // A VF is created by its physical function's driver while the host runs, so the boot list cannot contain it. A
    // device that its driver splits needs that driver.
    let parted =
        case.head.physical_function.is_some() || bound.iter().any(|function| in_parts(function));
    if parted || !case.can_go() {
        return Vec::new();
    }
    let read = listed(bound.iter().filter_map(|function| {
        Some(format!("{} is on {}", function.address, function.driver.as_deref()?))
    }));
    let meaning = format!(
        "Handover unbinds it from {} and returns it after use; if the device is only for machines, put it on the boot \
         list, {}",
        if bound.len() == 1 { "this driver" } else { "these drivers" },
        risk(case)
    );
    let finding = case.finding("native-driver", Severity::Note, read, meaning);
    vec![Finding { remedy: Some(boot_list_remedy(case)), ..finding }]
}

/// Puts the whole assembly on the boot list, unless the host itself needs a part of it: without its disk or network it
/// would not boot.
fn boot_list_remedy(case: &Case<'_>) -> Remedy {
    let members: Vec<&Function> = case.taken().collect();
    let needed = |function: &&&Function| {
        let mut holders = case.patient.holders.iter();
        holders.any(|holder| holder.address == function.address && holder.pid.is_none())
    };
    let host: Vec<_> = members.iter().filter(needed).map(|function| function.address).collect();
    if host.is_empty() {
        return remedy::boot_list(case.patient.platform, case.head.address, &members);
    }
    Remedy::words(format!(
        "do not put it on the boot list while the host itself needs {}: the host might not boot",
        listed(host)
    ))
}

/// Whether the driver splits the device: into virtual functions or mediated devices.
fn in_parts(function: &Function) -> bool {
    let types = function.detail.as_deref().is_some_and(|detail| !detail.mdev_types.is_empty());
    types || !function.virtual_functions().is_empty() || !function.mdevs.is_empty()
}

/// Why the boot list is better than unbinding the device each time.
fn risk(case: &Case<'_>) -> &'static str {
    let on = |names: &[&str]| {
        case.taken().any(|function| {
            function.driver.as_deref().is_some_and(|driver| names.contains(&driver))
        })
    };
    if on(&["nvidia"]) {
        "because its driver can wait forever for a program that holds the GPU"
    } else if case.head.kind() == Kind::Accelerator {
        "because its driver can crash when it is unbound, or wait for a program that uses the device"
    } else if on(&["nouveau", "amdgpu", "radeon", "i915", "xe"]) {
        "because its driver shows the host's console and desktop on it, and can crash when it is unbound"
    } else if case.head.kind() == Kind::Nvme {
        "so that the host never mounts or assembles what is on it"
    } else {
        "so that the host never starts to use it"
    }
}

/// `driver_override` and other settings for the drivers of the assembly, made by another tool or by hand.
pub fn overrides(case: &Case<'_>) -> Vec<Finding> {
    case.taken().filter_map(|function| set_for(case, function)).collect()
}

fn set_for(case: &Case<'_>, function: &Function) -> Option<Finding> {
    let address = function.address;
    let set = function.detail.as_deref().and_then(|detail| detail.driver_override.as_deref());
    let finding = |severity, read, meaning: &str| {
        Some(about(address, "driver-override", severity, read, meaning))
    };
    if let Some(own) = set_by_claim(case, function) {
        return Some(own);
    }
    let driver = function.driver.as_deref();
    if driver.is_some_and(|driver| STUBS.contains(&driver)) {
        let read = format!("{address} is on {}", driver.unwrap_or_default());
        return finding(
            Severity::Note,
            read,
            "that driver only keeps it from its native driver; Handover can unbind it",
        );
    }
    match set {
        Some(set) if crate::is_vfio(set, &function.vfio_driver) => {
            let read = format!("driver_override of {address} is {set}");
            let meaning = if function.on_vfio() {
                "driverctl or a similar tool keeps it for machines; Handover uses it and leaves the override unchanged"
            } else {
                "another driver is still bound: the override takes effect only at the next probe"
            };
            finding(Severity::Note, read, meaning)
        }
        Some(set) => {
            let read = format!("driver_override of {address} is {set}");
            let meaning = "another tool binds it to this driver only; after a hand-over, Handover restores this \
                           override";
            finding(Severity::Warning, read, meaning)
        }
        None if function.on_vfio() => Some(bound_to_vfio(case, function)),
        None => None,
    }
}

/// What a claim of Handover's own has set; what another tool had set before is its own finding.
fn set_by_claim(case: &Case<'_>, function: &Function) -> Option<Finding> {
    let address = function.address;
    let existing = case.patient.own.changed_by(address)?;
    let mut members = existing.claim.members();
    let before = members.find(|member| member.address == address)?.as_found.as_ref();
    let set = function.detail.as_deref().and_then(|detail| detail.driver_override.as_deref());
    let is_vfio = |driver: &str| crate::is_vfio(driver, &function.vfio_driver);
    let is_set = function.on_vfio() || set.is_some_and(is_vfio);
    let was_set = before.is_some_and(|before| {
        before.driver_override.as_deref().is_some_and(is_vfio)
            || before.driver.as_deref().is_some_and(is_vfio)
    });
    if !is_set || was_set {
        return None;
    }
    let driver = function.driver.as_deref().or(set).unwrap_or("vfio-pci");
    let read = format!("{address} is on {driver}, set by the claim of {}", existing.owner);
    let native = before.and_then(|before| before.driver.as_deref());
    let back = native.unwrap_or("its state without a driver");
    let meaning = if existing.is_wedged() {
        format!("returning it to {back} did not end well; it stays so until the device is cleared")
    } else {
        format!("Handover returns it to {back} when the claim is released")
    };
    let severity = if existing.is_wedged() { Severity::Warning } else { Severity::Good };
    Some(about(address, "driver-override", severity, read, meaning))
}

/// On vfio without a `driver_override`: by id, by hand, or by another tool.
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
        let meaning = "vfio-pci takes every device with this id at boot, even one that the host needs; Handover uses \
                       it as it is";
        let finding = about(*address, "driver-override", Severity::Note, read, meaning);
        return Finding { remedy: Some(boot_list_remedy(case)), ..finding };
    }
    let meaning = "it was bound by hand, by id or by another tool; Handover uses it as it is, and leaves it on vfio \
                   after a hand-over";
    about(*address, "driver-override", Severity::Note, read, meaning)
}

/// Drivers for one device (mlx5_vfio_pci, nvgrace_gpu_vfio_pci) can do more than vfio-pci: live migration, memory
/// coherent with the host.
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
        let meaning = "the machine lacks what the variant can do, such as live migration";
        let finding = about(address, "vfio-variant", Severity::Warning, read, meaning);
        let words = "unbind it from vfio-pci; Handover then chooses the variant";
        return with_remedy(
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
