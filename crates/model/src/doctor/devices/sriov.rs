//! Virtual functions: possible, missing and present.

use super::{Case, Finding, Severity, about, with_remedy};
use crate::{Function, Kind, VirtualFunctions};

/// NVIDIA's vendor id: its driver has a script to create virtual functions.
const NVIDIA: u16 = 0x10de;

/// The virtual functions of the assembly's physical functions, or the physical function of a virtual one.
pub fn parts(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = case
        .taken()
        .filter_map(|function| finding_for(function, function.sriov.as_ref()?))
        .collect();
    findings.extend(parent(case));
    findings
}

fn finding_for(function: &Function, sriov: &VirtualFunctions) -> Option<Finding> {
    let address = function.address;
    let present = sriov.present.len();
    let enabled = function.detail.as_deref().and_then(|detail| detail.vf_count).map(usize::from);
    if let Some(enabled) = enabled.filter(|enabled| *enabled > present) {
        let read = format!(
            "sriov_numvfs of {address} is {enabled}; existing virtual functions: {present}"
        );
        let meaning = "the missing ones cannot be handed over; usually the firmware reserved no bus numbers or memory \
                       for them";
        let finding = about(address, "sriov", Severity::Warning, read, meaning);
        let words = "enable SR-IOV (and Above 4G Decoding) in the firmware setup, or boot with pci=realloc; see `dmesg \
                     | grep -i -e sriov -e VF`. Then create them again";
        let file = format!("/sys/bus/pci/devices/{address}/sriov_numvfs");
        return Some(with_remedy(
            finding,
            words,
            vec![format!("echo 0 > {file}"), format!("echo {enabled} > {file}")],
        ));
    }
    if present > 0 {
        let read = format!("{address} has {present} of {} virtual functions", sriov.total);
        let meaning =
            "each can be handed over separately; the whole device cannot while they exist";
        return Some(about(address, "sriov", Severity::Good, read, meaning));
    }
    if sriov.total == 0 || function.on_vfio() {
        return None;
    }
    let read = format!("{address} supports {} virtual functions, and has none", sriov.total);
    let finding =
        about(address, "sriov", Severity::Note, read, "it can be shared by several machines");
    let (words, command) = if function.vendor.0 == NVIDIA && function.kind() == Kind::Gpu {
        let words = "create them with the script of NVIDIA's vGPU driver for the host";
        (words.into(), format!("/usr/lib/nvidia/sriov-manage -e {address}"))
    } else {
        let all = sriov.total;
        let words = format!(
            "create as many as you need, at most {all}; Handover creates them again at each boot"
        );
        (words, format!("handover sriov set {address} {all}"))
    };
    Some(with_remedy(finding, words, vec![command]))
}

/// A virtual function needs its physical function's driver, which assigns MAC addresses and memory, and answers the
/// guest's driver.
fn parent(case: &Case<'_>) -> Option<Finding> {
    let parent = case.head.physical_function?;
    let driver =
        case.patient.inventory.function(parent).and_then(|function| function.driver.as_deref());
    let read = match driver {
        Some(driver) => format!("it is a virtual function of {parent}, which is on {driver}"),
        None => format!("it is a virtual function of {parent}, which has no driver"),
    };
    Some(if driver.is_some() {
        case.finding("sriov", Severity::Good, read, "the physical function's driver supports it")
    } else {
        let meaning = "most virtual functions do not work without the physical function's driver";
        let finding = case.finding("sriov", Severity::Warning, read, meaning);
        let command = format!("echo {parent} > /sys/bus/pci/drivers_probe");
        with_remedy(finding, "bind the physical function to its driver again", vec![command])
    })
}
