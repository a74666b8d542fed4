//! Programs that run machines, and machine firmware.

use super::super::remedy::{Package, install};
use super::super::{Finding, Patient, Platform, Remedy, Tool};
use super::{good, note, warning};
use crate::PasstKind;

const QEMUS: [&str; 3] = ["qemu-system-x86_64", "qemu-kvm", "qemu-system-aarch64"];

/// The version of the installed QEMU.
pub fn qemu_version(platform: &Platform) -> Option<&str> {
    let tool = QEMUS.into_iter().find_map(|name| platform.tools.get(name))?;
    tool.version.as_deref()
}

pub fn qemu(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    let found = QEMUS.into_iter().find_map(|name| platform.tools.get(name));
    if let Some(tool) = found {
        return vec![good(has(tool), "Handover and libvirt can start machines with it")];
    }
    let meaning =
        "Handover starts machines with QEMU; devices can still be prepared for other programs";
    vec![
        warning("no qemu-system-x86_64 and no qemu-kvm in the usual places", meaning)
            .with_remedy(install(platform, Package::Qemu)),
    ]
}

pub fn ovmf(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    if let Some(path) = platform.ovmf.first() {
        return vec![good(format!("{path} is installed"), "machines can boot with UEFI")];
    }
    let read = "no OVMF image in the usual places";
    let meaning = "machines boot disk images with it, as GPUs with large BARs need; without it only by BIOS (`handover \
                   instance create --firmware bios`)";
    let finding = note(read, meaning);
    vec![finding.with_remedy(install(platform, Package::Ovmf))]
}

pub fn passt(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    let Some(tool) = platform.tools.get("passt") else {
        let meaning = "machines have no network but the NICs that are handed over to them";
        let finding = note("no passt in the usual places", meaning);
        return vec![finding.with_remedy(install(platform, Package::Passt))];
    };
    // In a tree without a running host, no version is read; Debian 12's passt does not know its own.
    let meaning = match PasstKind::of(tool.version.as_deref().unwrap_or_default()) {
        PasstKind::Confined => return vec![good(has(tool), "machines can have a network")],
        PasstKind::Open => {
            "machines can have a network, but unless it is of May 2025 or newer, no UDP port of this host can lead to \
             them, and the kernel must keep guests from this host's loopback (cgroup v2, BPF)"
        }
        PasstKind::TooOld => {
            "it is older than March 2023, so machines have no network but the NICs that are handed over to them"
        }
    };
    let words = "install the passt of a newer release: that of Debian 13 has no such limits";
    vec![note(has(tool), meaning).with_remedy(Remedy::words(words))]
}

pub fn swtpm(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    if let Some(tool) = platform.tools.get("swtpm") {
        return vec![good(has(tool), "machines can have a TPM")];
    }
    let meaning =
        "machines cannot have a TPM (`handover instance create --tpm`), which Windows 11 requires";
    let finding = note("no swtpm in the usual places", meaning);
    vec![finding.with_remedy(install(platform, Package::Swtpm))]
}

pub fn libvirt(patient: Patient<'_>) -> Vec<Finding> {
    let what = "libvirt's machines can use devices that Handover prepared (managed='no')";
    optional(patient.platform, &["libvirtd", "virtqemud"], what)
}

pub fn podman(patient: Patient<'_>) -> Vec<Finding> {
    optional(patient.platform, &["podman"], "machines can run in pods")
}

pub fn cloud_hypervisor(patient: Patient<'_>) -> Vec<Finding> {
    let what = "machines can run with it; NVIDIA's vGPUs need QEMU";
    optional(patient.platform, &["cloud-hypervisor"], what)
}

/// A program that Handover does not need. Its checks are in [`super::OPTIONAL`].
fn optional(platform: &Platform, names: &[&str], meaning: &str) -> Vec<Finding> {
    match names.iter().find_map(|name| platform.tools.get(*name)) {
        Some(tool) => vec![good(has(tool), meaning)],
        None => vec![good(
            format!("no {} in the usual places", names.join(" and no ")),
            "it is optional",
        )],
    }
}

fn has(tool: &Tool) -> String {
    match &tool.version {
        Some(version) => format!("{}, version {version}", tool.path),
        None => format!("{}, which did not report its version", tool.path),
    }
}
