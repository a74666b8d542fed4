//! Programs that machines are made with, and their firmware.

use super::super::remedy::{Package, install};
use super::super::{Finding, Patient, Platform, Tool};
use super::{good, note, warning};
use crate::Kind;

const QEMUS: [&str; 3] = ["qemu-system-x86_64", "qemu-kvm", "qemu-system-aarch64"];

/// A display function with less memory is the console of a server's management controller.
const OF_A_GPU: u64 = 256 << 20;

/// The version of the QEMU that is there.
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
        "Handover starts its machines with QEMU; devices can still be prepared for other programs";
    vec![
        warning("no qemu-system-x86_64 and no qemu-kvm in the usual places", meaning)
            .mended(install(platform, Package::Qemu)),
    ]
}

pub fn ovmf(patient: Patient<'_>) -> Vec<Finding> {
    let platform = patient.platform;
    if let Some(path) = platform.ovmf.first() {
        return vec![good(format!("{path} is there"), "machines can boot with UEFI")];
    }
    let read = "no OVMF image in the places where distributions put it";
    let mut functions = patient.inventory.functions.values();
    let gpu = functions.any(|function| {
        function.kind() == Kind::Gpu && function.bars.iter().any(|bar| bar.size >= OF_A_GPU)
    });
    let finding = if gpu {
        let meaning = "machines can only boot with SeaBIOS: GPUs with large BARs and their firmware want UEFI";
        warning(read, meaning)
    } else {
        note(read, "machines can only boot with SeaBIOS")
    };
    vec![finding.mended(install(platform, Package::Ovmf))]
}

pub fn libvirt(patient: Patient<'_>) -> Vec<Finding> {
    let what = "libvirt's machines can have devices that Handover prepared (managed='no')";
    optional(patient.platform, &["libvirtd", "virtqemud"], what)
}

pub fn podman(patient: Patient<'_>) -> Vec<Finding> {
    optional(patient.platform, &["podman"], "machines can run in pods")
}

pub fn cloud_hypervisor(patient: Patient<'_>) -> Vec<Finding> {
    let what = "machines can run with it; NVIDIA's vGPUs need QEMU";
    optional(patient.platform, &["cloud-hypervisor"], what)
}

/// A program that only some want.
fn optional(platform: &Platform, names: &[&str], meaning: &str) -> Vec<Finding> {
    match names.iter().find_map(|name| platform.tools.get(*name)) {
        Some(tool) => vec![good(has(tool), meaning)],
        None => vec![good(
            format!("no {} in the usual places", names.join(" and no ")),
            "only those who use it need it",
        )],
    }
}

fn has(tool: &Tool) -> String {
    match &tool.version {
        Some(version) => format!("{}, version {version}", tool.path),
        None => format!("{}, which did not say its version", tool.path),
    }
}
