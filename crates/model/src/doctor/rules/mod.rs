//! Checks of the host as a whole, one file per subject.
//!
//! A check reports what it found, also if all is well. It reports nothing only if it does not apply to this host:
//! interrupt remapping without an IOMMU, for example.

mod bars;
mod interrupts;
mod iommu;
mod memory;
mod nodes;
mod processor;
mod programs;
mod security;
mod tools;
mod unfinished;
mod vfio;

#[cfg(test)]
mod tests;

use super::{Finding, Patient, Remedy, Severity};
use crate::{Function, Kind};

/// A check of the host.
struct Check {
    name: &'static str,
    looks_for: &'static str,
    run: fn(Patient<'_>) -> Vec<Finding>,
}

/// Every check, in the order in which an administrator would check.
const EVERY: &[Check] = &[
    check("virtualization", "the processor's virtualization extensions", processor::extensions),
    check("kvm", "KVM's module and `/dev/kvm`", processor::kvm),
    check("iommu", "the firmware's IOMMU tables against the kernel's IOMMU groups", iommu::on),
    check("iommu-mode", "whether the host's own devices also go through the IOMMU", iommu::mode),
    check("interrupt-remapping", "whether a device can forge interrupts", interrupts::remapping),
    check(
        "unsafe-interrupts",
        "`allow_unsafe_interrupts` of vfio and iommufd",
        interrupts::allowed_unsafe,
    ),
    check(
        "acs-override",
        "`pcie_acs_override=`, which makes groups look isolated",
        iommu::acs_override,
    ),
    check("noiommu", "vfio's noiommu mode, which protects nothing", vfio::noiommu),
    check("vfio-modules", "whether vfio-pci and an IOMMU backend are available", vfio::modules),
    check("vfio-forbidden", "lines that blacklist or replace vfio's modules", vfio::forbidden),
    check("vfio-access", "whether machines get devices as descriptors or by groups", vfio::access),
    check("vfio-nodes", "who may open `/dev/vfio`", nodes::vfio),
    check("hugepages", "huge pages for machines' memory", memory::huge_pages),
    check("memlock", "how much memory a process may lock", memory::locked),
    check("large-bars", "a kernel or QEMU that maps large BARs slowly", bars::slow),
    check("selinux", "whether SELinux blocks devices in containers", security::selinux),
    check("apparmor", "AppArmor's profiles for libvirt's machines", security::apparmor),
    check("lockdown", "kernel lockdown", security::lockdown),
    check(
        "gpu-programs",
        "running desktops, remote desktops and NVIDIA daemons",
        programs::running,
    ),
    check("vgpu-manager", "NVIDIA's vGPU manager", programs::vgpu_manager),
    check("fabric-manager", "Fabric Manager, on hosts with NVSwitch", programs::fabric_manager),
    check("qemu", "QEMU and its version", tools::qemu),
    check("ovmf", "UEFI firmware for machines", tools::ovmf),
    check("passt", "passt, the network of machines", tools::passt),
    check("swtpm", "swtpm, the TPM of machines", tools::swtpm),
    check("libvirt", "libvirt and its version", tools::libvirt),
    check("podman", "podman and its version", tools::podman),
    check("cloud-hypervisor", "Cloud Hypervisor and its version", tools::cloud_hypervisor),
    check(
        "unfinished",
        "a script of the doctor that stopped before it rebuilt what it had edited",
        unfinished::script,
    ),
    check("visibility", "what could not be read, and why", visibility),
];

const fn check(
    name: &'static str,
    looks_for: &'static str,
    run: fn(Patient<'_>) -> Vec<Finding>,
) -> Check {
    Check { name, looks_for, run }
}

/// The checks of programs that Handover does not need: without the program, they neither pass nor fail.
const OPTIONAL: [&str; 6] = ["ovmf", "passt", "swtpm", "libvirt", "podman", "cloud-hypervisor"];

/// Whether a check is of a program that Handover does not need.
#[must_use]
pub fn is_optional(check: &str) -> bool {
    OPTIONAL.contains(&check)
}

/// Every check of the host: stable name, and what it checks.
pub fn checks() -> impl Iterator<Item = (&'static str, &'static str)> {
    EVERY.iter().map(|check| (check.name, check.looks_for))
}

/// The checks that concern display functions and accelerators only.
const OF_GPUS: [&str; 4] = ["large-bars", "gpu-programs", "vgpu-manager", "fabric-manager"];

/// Whether a check of the host concerns hand-overs of this function.
pub fn concerns(check: &str, function: &Function) -> bool {
    let gpu = matches!(function.kind(), Kind::Gpu | Kind::Accelerator);
    // An NVSwitch.
    let switch = function.class.prefix() == 0x0680;
    gpu || switch || !OF_GPUS.contains(&check)
}

/// Runs every check of the host.
pub fn all(patient: Patient<'_>) -> Vec<Finding> {
    let run = |check: &Check| {
        let mut findings = (check.run)(patient);
        for finding in &mut findings {
            check.name.clone_into(&mut finding.check);
        }
        findings
    };
    EVERY.iter().flat_map(run).collect()
}

/// What could not be read. The checks that need it report nothing, rather than that all is well.
fn visibility(patient: Patient<'_>) -> Vec<Finding> {
    let cannot = |what: &String| {
        let read = format!("not read: {what}");
        let finding = finding(Severity::Unseen, read, "the checks that need it were skipped");
        let as_root = what.contains("ermission") || what.contains("root only");
        if as_root {
            finding.with_remedy(Remedy::words("run handover doctor as root"))
        } else {
            finding
        }
    };
    patient.platform.unseen.iter().map(cannot).collect()
}

/// A finding about the host; [`all`] sets the check's name.
fn finding(severity: Severity, read: impl Into<String>, meaning: impl Into<String>) -> Finding {
    Finding {
        check: String::new(),
        severity,
        address: None,
        read: read.into(),
        meaning: meaning.into(),
        remedy: None,
    }
}

fn good(read: impl Into<String>, meaning: impl Into<String>) -> Finding {
    finding(Severity::Good, read, meaning)
}

fn note(read: impl Into<String>, meaning: impl Into<String>) -> Finding {
    finding(Severity::Note, read, meaning)
}

fn warning(read: impl Into<String>, meaning: impl Into<String>) -> Finding {
    finding(Severity::Warning, read, meaning)
}

fn impossible(read: impl Into<String>, meaning: impl Into<String>) -> Finding {
    finding(Severity::Impossible, read, meaning)
}

impl Finding {
    /// Adds a remedy.
    fn with_remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }
}
