//! Devices that sleep.

use super::{Case, Finding, Severity, about, mended};
use crate::Function;

/// Which members of the assembly sleep or may be cut off from power.
pub fn asleep(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = case.taken().filter_map(told).collect();
    if findings.is_empty() {
        findings.extend(awake(case));
    }
    findings
}

fn awake(case: &Case<'_>) -> Option<Finding> {
    let power = &case.head.power;
    let state = power.state.as_deref().filter(|state| *state == "D0")?;
    let read = format!("power_state of {} is {state}", case.head.address);
    let cut = power.d3cold_allowed == Some(true) && power.control.as_deref() == Some("auto");
    let meaning = if cut {
        "it is awake; when nobody uses it, it may be cut off from power (d3cold_allowed). Handover keeps it awake while a \
         machine has it"
    } else {
        "it is awake"
    };
    Some(case.says("power", Severity::Good, read, meaning))
}

/// Whether a function sleeps; much of its detail is then not read, in order not to wake it.
pub fn sleeps(function: &Function) -> bool {
    let power = &function.power;
    power.runtime_status.as_deref() == Some("suspended")
        || power.state.as_deref().is_some_and(|state| state.starts_with("D3"))
}

fn told(function: &Function) -> Option<Finding> {
    if !sleeps(function) {
        return None;
    }
    let address = function.address;
    let state = function.power.state.as_deref().unwrap_or("unknown");
    let wake = vec![format!("echo on > /sys/bus/pci/devices/{address}/power/control")];
    // vfio-pci leaves a device that it has asleep while nobody uses it: that is as it should be.
    if function.on_vfio() {
        return None;
    }
    let (read, meaning) = if state == "D3cold" {
        (
            format!("power_state of {address} is D3cold: it is cut off from power"),
            "its configuration space cannot be read, and some devices do not come back; Handover wakes it before it \
             touches it and keeps it awake while a machine has it. What it is capable of was not read",
        )
    } else {
        (
            format!("{address} sleeps (power_state {state})"),
            "Handover wakes it before it touches it and keeps it awake while a machine has it. It was not woken for this \
             examination, so its link and capabilities were not read",
        )
    };
    let finding = about(address, "power", Severity::Note, read, meaning);
    Some(mended(finding, "wake it to see the rest", wake))
}
