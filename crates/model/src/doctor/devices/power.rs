//! Suspended devices.

use super::{Case, Finding, Severity, about, with_remedy};
use crate::Function;

/// Members of the assembly that are suspended or may lose power.
pub fn asleep(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = case.taken().filter_map(finding_for).collect();
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
        "it is awake; when unused, it may be powered off (d3cold_allowed). Handover keeps it awake while a machine has \
         it"
    } else {
        "it is awake"
    };
    Some(case.finding("power", Severity::Good, read, meaning))
}

/// Whether a function is suspended; most of its details are then not read, to avoid waking it.
pub fn sleeps(function: &Function) -> bool {
    let power = &function.power;
    power.runtime_status.as_deref() == Some("suspended")
        || power.state.as_deref().is_some_and(|state| state.starts_with("D3"))
}

fn finding_for(function: &Function) -> Option<Finding> {
    if !sleeps(function) {
        return None;
    }
    let address = function.address;
    let state = function.power.state.as_deref().unwrap_or("unknown");
    let wake = vec![format!("echo on > /sys/bus/pci/devices/{address}/power/control")];
    // vfio-pci suspends an unused device by design.
    if function.on_vfio() {
        return None;
    }
    let (read, meaning) = if state == "D3cold" {
        (
            format!("power_state of {address} is D3cold: it is powered off"),
            "its configuration space cannot be read, and some devices do not wake up again; Handover wakes it before \
             it uses it, and keeps it awake while a machine has it. Its capabilities were not read",
        )
    } else {
        (
            format!("{address} is suspended (power_state {state})"),
            "Handover wakes it before it uses it, and keeps it awake while a machine has it. The doctor did not wake \
             it, so its link and capabilities were not read",
        )
    };
    let finding = about(address, "power", Severity::Note, read, meaning);
    Some(with_remedy(finding, "wake it and run the doctor again", wake))
}
