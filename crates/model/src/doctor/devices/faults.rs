//! Facts about a device that make a machine unreliable: it can be unplugged, or it reports parity errors that are none.

use super::{Case, Finding, Severity, about};

/// External devices (Thunderbolt, USB4, ExpressCard).
pub fn removable(case: &Case<'_>) -> Vec<Finding> {
    let external = case.taken().filter(|function| function.removable);
    external
        .map(|function| {
            let read = format!("{} is removable", function.address);
            let meaning = "when it is unplugged, a machine that has it loses it without warning, and the host may need a reboot; \
                           after it is plugged in again it can have another address";
            about(function.address, "removable", Severity::Note, read, meaning)
        })
        .collect()
}

/// Devices that the administrator or the kernel marked as reporting wrong parity errors (`broken_parity_status`).
pub fn parity(case: &Case<'_>) -> Vec<Finding> {
    let broken = case.taken().filter(|function| function.broken_parity);
    broken
        .map(|function| {
            let read = format!("broken_parity_status of {} is 1", function.address);
            let meaning = "the host ignores its parity errors: data errors of the device go unnoticed, in a machine too";
            about(function.address, "parity", Severity::Warning, read, meaning)
        })
        .collect()
}
