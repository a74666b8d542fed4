//! Virtual functions: those that could be, those that are missing, those that are there.

use super::{Case, Finding, Severity, about, mended};
use crate::{Function, Kind, VirtualFunctions};

/// NVIDIA's vendor id: its driver makes virtual functions by a script of its own.
const NVIDIA: u16 = 0x10de;

/// The virtual functions of the assembly's physical functions, or the physical function of a virtual one.
pub fn parts(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        case.taken().filter_map(|function| told(function, function.sriov.as_ref()?)).collect();
    findings.extend(parent(case));
    findings
}

fn told(function: &Function, sriov: &VirtualFunctions) -> Option<Finding> {
    let address = function.address;
    let present = sriov.present.len();
    let enabled = function.detail.as_deref().and_then(|detail| detail.vf_count).map(usize::from);
    if let Some(enabled) = enabled.filter(|enabled| *enabled > present) {
        let read = format!(
            "sriov_numvfs of {address} is {enabled}; virtual functions that are there: {present}"
        );
        let meaning = "the missing ones cannot be handed over; mostly the firmware left no bus numbers or memory for them";
        let finding = about(address, "sriov", Severity::Warning, read, meaning);
        let words = "switch SR-IOV (and Above 4G Decoding) on in the firmware's setup, or boot with pci=realloc; \
                     `dmesg | grep -i -e sriov -e VF` says more. Then make them again";
        let file = format!("/sys/bus/pci/devices/{address}/sriov_numvfs");
        return Some(mended(
            finding,
            words,
            vec![format!("echo 0 > {file}"), format!("echo {enabled} > {file}")],
        ));
    }
    if present > 0 {
        let read = format!("{address} has {present} of {} virtual functions", sriov.total);
        let meaning = "each can be handed over by itself; the device as a whole cannot, as long as they are there";
        return Some(about(address, "sriov", Severity::Good, read, meaning));
    }
    if sriov.total == 0 || function.on_vfio() {
        return None;
    }
    let read = format!("{address} could have {} virtual functions, and has none", sriov.total);
    let finding =
        about(address, "sriov", Severity::Note, read, "it can be split among several machines");
    let (words, command) = if function.vendor.0 == NVIDIA && function.kind() == Kind::Gpu {
        let words = "with NVIDIA's vGPU driver on the host, its own script makes them";
        (words.into(), format!("/usr/lib/nvidia/sriov-manage -e {address}"))
    } else {
        let all = sriov.total;
        let words =
            format!("make as many as are wanted, {all} at most; they are gone after a reboot");
        (words, format!("echo {all} > /sys/bus/pci/devices/{address}/sriov_numvfs"))
    };
    Some(mended(finding, words, vec![command]))
}

/// A virtual function needs its physical function's driver: it hands out MAC addresses and memory, and answers the
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
        case.says("sriov", Severity::Good, read, "the physical function's driver serves it")
    } else {
        let meaning = "nobody answers the machine's driver: most virtual functions do not work so";
        let finding = case.says("sriov", Severity::Warning, read, meaning);
        let command = format!("echo {parent} > /sys/bus/pci/drivers_probe");
        mended(finding, "give the physical function its driver back", vec![command])
    })
}
