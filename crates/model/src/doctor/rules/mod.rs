//! Checks of the host as a whole: one file for each subject.
//!
//! A check answers with what it found, also where all is well. It says nothing only where its question makes no sense on
//! this host: whether interrupts are remapped, where there is no IOMMU that could.

mod bars;
mod interrupts;
mod iommu;
mod memory;
mod nodes;
mod processor;
mod programs;
mod security;
mod tools;
mod vfio;

#[cfg(test)]
mod tests;

use super::{Finding, Patient, Remedy, Severity};

/// A check of the host.
struct Check {
    name: &'static str,
    looks_for: &'static str,
    run: fn(Patient<'_>) -> Vec<Finding>,
}

/// Every check, in the order in which a person would look.
const EVERY: &[Check] = &[
    check("virtualization", "the processor's extensions for machines", processor::extensions),
    check("kvm", "KVM's module and `/dev/kvm`", processor::kvm),
    check("iommu", "the firmware's IOMMU tables against the kernel's IOMMU groups", iommu::on),
    check("iommu-mode", "whether the host's own devices go through the IOMMU, too", iommu::mode),
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
    check("vfio-modules", "whether vfio-pci and its IOMMU backend can be had", vfio::modules),
    check("vfio-forbidden", "lines that forbid or replace vfio's modules", vfio::forbidden),
    check("vfio-nodes", "who may open `/dev/vfio`", nodes::vfio),
    check("hugepages", "huge pages for machines' memory", memory::huge_pages),
    check("memlock", "how much memory a process may lock", memory::locked),
    check("large-bars", "a kernel or QEMU that maps large BARs slowly", bars::slow),
    check("selinux", "SELinux in the way of devices in containers", security::selinux),
    check("apparmor", "AppArmor's profiles of libvirt's machines", security::apparmor),
    check("lockdown", "the kernel's lockdown", security::lockdown),
    check(
        "gpu-programs",
        "desktops, remote desktops and NVIDIA's daemons that run",
        programs::running,
    ),
    check("vgpu-manager", "NVIDIA's vGPU manager", programs::vgpu_manager),
    check(
        "fabric-manager",
        "the fabric manager, where there is an NVSwitch",
        programs::fabric_manager,
    ),
    check("qemu", "QEMU and its version", tools::qemu),
    check("ovmf", "UEFI firmware for machines", tools::ovmf),
    check("libvirt", "libvirt and its version", tools::libvirt),
    check("podman", "podman and its version", tools::podman),
    check("cloud-hypervisor", "Cloud Hypervisor and its version", tools::cloud_hypervisor),
    check("visibility", "what could not be seen, and why", visibility),
];

const fn check(
    name: &'static str,
    looks_for: &'static str,
    run: fn(Patient<'_>) -> Vec<Finding>,
) -> Check {
    Check { name, looks_for, run }
}

/// Every check of the host: its stable name, and what it looks for.
pub fn checks() -> impl Iterator<Item = (&'static str, &'static str)> {
    EVERY.iter().map(|check| (check.name, check.looks_for))
}

/// What every check of the host found.
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

/// What the reader could not see. The checks that need it say nothing, rather than that all is well.
fn visibility(patient: Patient<'_>) -> Vec<Finding> {
    let cannot = |what: &String| {
        let read = format!("not seen: {what}");
        let finding = found(Severity::Unseen, read, "the checks that need it cannot tell");
        let as_root = what.contains("ermission") || what.contains("root only");
        if as_root { finding.mended(Remedy::words("run handover doctor as root")) } else { finding }
    };
    patient.platform.unseen.iter().map(cannot).collect()
}

/// A finding about the host; its check's name is set by [`all`].
fn found(severity: Severity, read: impl Into<String>, meaning: impl Into<String>) -> Finding {
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
    found(Severity::Good, read, meaning)
}

fn note(read: impl Into<String>, meaning: impl Into<String>) -> Finding {
    found(Severity::Note, read, meaning)
}

fn warning(read: impl Into<String>, meaning: impl Into<String>) -> Finding {
    found(Severity::Warning, read, meaning)
}

fn impossible(read: impl Into<String>, meaning: impl Into<String>) -> Finding {
    found(Severity::Impossible, read, meaning)
}

impl Finding {
    /// With what mends it.
    fn mended(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }
}
