//! VFIO's modules.

use super::super::remedy::{Package, install, unblacklist, without_module_option};
use super::super::{Finding, Module, Patient, Platform, Remedy, version};
use super::{good, impossible, note, tools};

/// The modules that a hand-over needs (of the two IOMMU backends, one).
const NEEDED: [&str; 4] = ["vfio", "vfio_pci", "vfio_iommu_type1", "iommufd"];

pub fn modules(patient: Patient<'_>) -> Vec<Finding> {
    let Patient { inventory, platform, .. } = patient;
    let vfio = &inventory.vfio;
    let state = |name: &str| match platform.modules.get(name) {
        Some(module) if module.loaded => "is loaded",
        Some(module) if module.available => "can be loaded",
        _ => "cannot be found",
    };
    let has = |name: &str| state(name) != "cannot be found";
    if !(vfio.vfio_pci || has("vfio_pci")) {
        let read = "vfio_pci is neither loaded nor among this kernel's modules";
        let meaning = "no device can be handed over";
        let finding = impossible(read, meaning);
        return vec![finding.with_remedy(install(platform, Package::KernelModules))];
    }
    if !(vfio.type1 || vfio.iommufd || has("vfio_iommu_type1") || has("iommufd")) {
        let read = "neither vfio_iommu_type1 nor iommufd is loaded or among this kernel's modules";
        let meaning = "vfio cannot map a machine's memory for a device";
        let finding = impossible(read, meaning);
        return vec![finding.with_remedy(install(platform, Package::KernelModules))];
    }
    let read = format!(
        "vfio_pci {}, vfio_iommu_type1 {}, iommufd {}",
        state("vfio_pci"),
        state("vfio_iommu_type1"),
        state("iommufd")
    );
    vec![good(read, "devices can be handed over; Handover loads the modules it needs")]
}

pub fn forbidden(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    let modules = NEEDED.iter().filter_map(|name| {
        let module = platform.modules.get(*name)?;
        (!module.blacklisted.is_empty()).then(|| forbidden_module(platform, name, module))
    });
    let findings: Vec<Finding> = modules.collect();
    if findings.is_empty() && !platform.modules.is_empty() {
        let read = "neither modprobe's configuration nor the kernel's command line blacklists vfio";
        return vec![good(read, "vfio's modules can be loaded when needed")];
    }
    findings
}

fn forbidden_module(platform: &Platform, name: &str, module: &Module) -> Finding {
    let read = module.blacklisted.join("; ");
    let remedy = unblacklist(platform, name, &module.blacklisted);
    if module.loaded {
        return note(read, format!("{name} is loaded anyway")).with_remedy(remedy);
    }
    // `blacklist` only stops loading by alias; Handover loads by name (modprobe.d(5)).
    let weak =
        |line: &String| line.contains(": blacklist ") || line.starts_with("modprobe.blacklist=");
    if module.blacklisted.iter().all(weak) {
        let meaning =
            format!("{name} is not loaded automatically; Handover loads it by name, which works");
        return note(read, meaning).with_remedy(remedy);
    }
    impossible(read, format!("{name} cannot be loaded, or another command runs instead"))
        .with_remedy(remedy)
}

/// The first QEMU that takes devices as descriptors.
const QEMU: (u32, u32) = (9, 0);

/// How machines get their devices on this host.
pub fn access(patient: Patient<'_>) -> Vec<Finding> {
    let Patient { inventory, platform, .. } = patient;
    let nodes = platform.device_nodes;
    if nodes.is_none() && !inventory.vfio.vfio_pci {
        return Vec::new();
    }
    let mut lacks = Vec::new();
    if !inventory.vfio.iommufd {
        lacks.push("this kernel has no iommufd (CONFIG_IOMMUFD)".to_owned());
    }
    if nodes == Some(false) {
        lacks.push("this kernel has no nodes of devices (CONFIG_VFIO_DEVICE_CDEV)".to_owned());
    }
    let qemu = tools::qemu_version(platform);
    if let Some(old) = qemu.filter(|text| version(text).is_some_and(|found| found < QEMU)) {
        lacks.push(format!("QEMU {old} is older than {}.{}", QEMU.0, QEMU.1));
    }
    if !lacks.is_empty() {
        let meaning = "machines open the nodes of their IOMMU groups, which their users may then open; with a kernel and a \
                       QEMU that have this, they would get open descriptors, and their users could open no device node";
        return vec![note(lacks.join("; "), meaning)];
    }
    let read = match nodes {
        Some(_) => "this kernel has iommufd and nodes of devices",
        None => {
            "this kernel has iommufd; vfio, which is not loaded yet, tells whether devices have nodes"
        }
    };
    let meaning =
        "machines get their devices as open descriptors, and their users can open no device node";
    vec![good(read, meaning)]
}

pub fn noiommu(patient: Patient<'_>) -> Vec<Finding> {
    const PARAMETER: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    if !patient.inventory.vfio.unsafe_noiommu {
        return vec![good(
            format!("{PARAMETER} is not set"),
            "no device is handed over without protection",
        )];
    }
    let meaning = "programs may use devices without an IOMMU, and so write to all of the host's memory; Handover \
                   refuses hand-overs while it is set";
    let now = format!("echo N > {PARAMETER}");
    let remedy = Remedy::now("disable it now", &[&now]).and(without_module_option(
        patient.platform,
        "vfio",
        "enable_unsafe_noiommu_mode",
    ));
    vec![impossible(format!("{PARAMETER} is Y"), meaning).with_remedy(remedy)]
}
