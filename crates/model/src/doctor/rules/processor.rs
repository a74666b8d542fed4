//! Hardware virtualization.

use super::super::remedy::load_at_boot;
use super::super::{Finding, Patient, Platform, Remedy};
use super::{good, warning};

const SLOW: &str =
    "machines run on an emulated processor, many times slower; devices can still be handed over";

pub fn extensions(patient: Patient<'_>) -> Vec<Finding> {
    let Platform { cpu, virtual_machine, xen_dom0, .. } = patient.platform;
    // Arm's /proc/cpuinfo does not show them; the check of KVM covers it.
    // Under Xen, the hypervisor has them, and hides them from dom0.
    if cpu.vendor.is_empty() || *xen_dom0 && cpu.virtualization.is_none() {
        return Vec::new();
    }
    if let Some(extensions) = &cpu.virtualization {
        let read = format!("{extensions} is among the flags in /proc/cpuinfo ({})", cpu.model);
        return vec![good(read, "machines run with hardware virtualization")];
    }
    let remedy = if *virtual_machine {
        "enable nested virtualization on the host of this machine (CPU model host-passthrough)"
    } else if cpu.vendor == "AuthenticAMD" {
        "enable SVM in the firmware setup"
    } else {
        "enable Intel Virtualization Technology (VT-x) in the firmware setup"
    };
    let read = format!("neither vmx nor svm is among the flags in /proc/cpuinfo ({})", cpu.model);
    vec![warning(read, SLOW).with_remedy(Remedy::words(remedy))]
}

pub fn kvm(patient: Patient<'_>) -> Vec<Finding> {
    let Platform { cpu, nodes, modules, unseen, xen_dom0, .. } = patient.platform;
    let extensions = cpu.virtualization.as_deref();
    if let Some(node) = nodes.get("/dev/kvm") {
        let read = format!("/dev/kvm is there, with mode {:o}", node.mode);
        return vec![good(read, "machines can use KVM")];
    }
    if *xen_dom0 {
        let meaning = "KVM needs the processor's virtualization, which Xen uses itself";
        let remedy = Remedy::words("boot this host without Xen");
        return vec![
            warning("there is no /dev/kvm: this is a Xen dom0", meaning).with_remedy(remedy),
        ];
    }
    let unseen = unseen.iter().any(|what| what.starts_with("device nodes"));
    if unseen || (extensions.is_none() && !cpu.vendor.is_empty()) {
        return Vec::new();
    }
    let name = match extensions {
        Some("svm") => "kvm_amd",
        Some(_) => "kvm_intel",
        None => "kvm",
    };
    let module = modules.get(name);
    let read = if module.is_some_and(|module| module.loaded) {
        format!("{name} is loaded, but there is no /dev/kvm")
    } else {
        format!("there is no /dev/kvm; {name} is not loaded")
    };
    let remedy = if module.is_some_and(|module| module.available && !module.loaded) {
        load_at_boot(patient.platform, &[name])
    } else if module.is_some_and(|module| module.loaded) {
        Remedy::words(
            "run `dmesg | grep -i kvm` for the cause: the firmware may have locked virtualization",
        )
    } else {
        Remedy::words("boot a kernel that has CONFIG_KVM")
    };
    vec![warning(read, SLOW).with_remedy(remedy)]
}
