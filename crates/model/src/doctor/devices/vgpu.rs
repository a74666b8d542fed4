//! The mechanism that splits a GPU: mediated devices, NVIDIA's vendor-specific VFIO on virtual functions, or none.
//!
//! Findings are per function, never for the host: one host can have GPUs of both kinds.

use super::{Case, Finding, Severity, listed, with_remedy};
use crate::{Function, Kind};

const NVIDIA: u16 = 0x10de;

/// The module of NVIDIA's vGPU software on the host.
const NVIDIA_VGPU: &str = "nvidia_vgpu_vfio";

/// How the assembly's GPU or VF is split.
pub fn mechanism(case: &Case<'_>) -> Vec<Finding> {
    let head = case.head;
    if head.physical_function.is_some() {
        return of_virtual_function(case).into_iter().collect();
    }
    let mut findings: Vec<Finding> = mediated(case).into_iter().collect();
    findings.extend(of_virtual_functions(case));
    findings
}

/// Mediated devices: the types that the function offers, and existing devices.
fn mediated(case: &Case<'_>) -> Option<Finding> {
    let head = case.head;
    let types = head.detail.as_deref().map_or(0, |detail| detail.mdev_types.len());
    // The check `claimed` reports mediated devices of a claim, which are released and not removed.
    if !head.mdevs.is_empty() && !case.is_claimed() {
        let names: Vec<String> = head.mdevs.iter().map(|mdev| mdev.uuid.to_string()).collect();
        let read = format!("{} is the parent of {} mediated devices", head.address, names.len());
        let meaning =
            "each can be handed over separately; the whole device cannot while they exist";
        let finding = case.finding("vgpu", Severity::Impossible, read, meaning);
        let words = format!(
            "hand one of them over ({}), or remove them when no machine uses them: echo 1 > \
             /sys/bus/mdev/devices/UUID/remove",
            listed(names)
        );
        return Some(with_remedy(finding, words, Vec::new()));
    }
    (types > 0).then(|| {
        let read = format!("{} offers {types} types of mediated devices", head.address);
        case.finding("vgpu", Severity::Good, read, "it can be split into mediated devices (mdev)")
    })
}

/// The virtual functions of an NVIDIA GPU.
fn of_virtual_functions(case: &Case<'_>) -> Option<Finding> {
    let inventory = case.patient.inventory;
    let head = case.head;
    if head.vendor.0 != NVIDIA || head.kind() != Kind::Gpu {
        return None;
    }
    let all: Vec<&Function> = head
        .virtual_functions()
        .iter()
        .filter_map(|address| inventory.function(*address))
        .collect();
    let read: Vec<&&Function> = all.iter().filter(|function| function.detail.is_some()).collect();
    if read.is_empty() {
        return None;
    }
    let vendor = read.iter().filter(|function| has_vendor_vfio(function)).count();
    let taken = read.iter().filter(|function| current(function).is_some()).count();
    let mediated = read.iter().filter(|function| has_types(function)).count();
    let none =
        read.iter().filter(|function| !has_vendor_vfio(function) && !has_types(function)).count();
    let mut words = Vec::new();
    if vendor > 0 {
        words
            .push(format!("{vendor} with NVIDIA's vendor-specific VFIO ({taken} in use as vGPUs)"));
    }
    if mediated > 0 {
        words.push(format!("{mediated} with mediated devices"));
    }
    if none > 0 {
        words.push(format!("{none} without a vGPU mechanism"));
    }
    let read = format!("{} has {} virtual functions: {}", head.address, read.len(), listed(words));
    if none == 0 {
        return Some(case.finding("vgpu", Severity::Good, read, "they can become vGPUs"));
    }
    Some(without_mechanism(case, read))
}

fn of_virtual_function(case: &Case<'_>) -> Option<Finding> {
    let head = case.head;
    if head.vendor.0 != NVIDIA || head.kind() != Kind::Gpu {
        return None;
    }
    let detail = head.detail.as_deref()?;
    let address = head.address;
    if let Some(types) = &detail.vgpu {
        let (read, meaning) = match types.current {
            Some(id) => (
                format!("nvidia/current_vgpu_type of {address} is {id}"),
                "it is a vGPU, and stays on NVIDIA's driver during a hand-over (vendor-specific VFIO)",
            ),
            None => (
                format!("{address} can become one of {} types of vGPU", types.creatable.len()),
                "Handover sets a type first, then hands it over (vendor-specific VFIO)",
            ),
        };
        let full = types.current.is_none() && types.creatable.is_empty();
        return Some(if full {
            let meaning = "the GPU has no room for another vGPU, or only for sizes that its layout does not have";
            case.finding("vgpu", Severity::Warning, read, meaning)
        } else {
            case.finding("vgpu", Severity::Good, read, meaning)
        });
    }
    if has_types(head) {
        let read =
            format!("{address} offers {} types of mediated devices", detail.mdev_types.len());
        return Some(case.finding(
            "vgpu",
            Severity::Good,
            read,
            "it is split into mediated devices (mdev)",
        ));
    }
    let read =
        format!("{address} has neither nvidia/creatable_vgpu_types nor mdev_supported_types");
    Some(without_mechanism(case, read))
}

/// A virtual function of an NVIDIA GPU that cannot become a vGPU.
fn without_mechanism(case: &Case<'_>, read: String) -> Finding {
    let modules = &case.patient.platform.modules;
    let meaning = "it cannot become a vGPU: NVIDIA's vGPU software for the host is not installed, or does not support \
                   it";
    let finding = case.finding("vgpu", Severity::Warning, read, meaning);
    match modules.get(NVIDIA_VGPU) {
        Some(module) if module.available && !module.loaded => with_remedy(
            finding,
            "load the vGPU module and start its manager",
            vec![
                "modprobe nvidia-vgpu-vfio".into(),
                "systemctl restart nvidia-vgpu-mgr.service".into(),
            ],
        ),
        Some(module) if module.loaded => with_remedy(
            finding,
            "the module is loaded: see `journalctl -u nvidia-vgpu-mgr` for why it offers no types (licence, MIG mode, \
             an unsupported GPU)",
            Vec::new(),
        ),
        _ => with_remedy(
            finding,
            "install NVIDIA's vGPU driver for the host; the driver for graphics and computing does not include it",
            Vec::new(),
        ),
    }
}

fn has_vendor_vfio(function: &Function) -> bool {
    function.detail.as_deref().is_some_and(|detail| detail.vgpu.is_some())
}

fn current(function: &Function) -> Option<u32> {
    function.detail.as_deref()?.vgpu.as_ref()?.current
}

fn has_types(function: &Function) -> bool {
    !function.mdevs.is_empty()
        || function.detail.as_deref().is_some_and(|detail| !detail.mdev_types.is_empty())
}
