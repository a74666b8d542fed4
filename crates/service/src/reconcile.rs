//! Returning devices to their native drivers, and reports of a recovery.

use api::{Report, ReturnDevices, ReturnedDevice};
use engine::{Engine, RecoveryReport, Returned};
use model::Refusal;

use crate::refusals::invalid;

/// Returns unclaimed devices to their native drivers: those that are named, or all if that is requested explicitly.
///
/// # Errors
/// `invalid_request`, `not_found`, `device_not_found`, or the host cannot be read.
pub fn return_devices(
    engine: &Engine,
    body: &ReturnDevices,
) -> Result<Vec<ReturnedDevice>, Refusal> {
    if body.all != body.addresses.is_empty() {
        return Err(invalid(
            "the request names no devices, or both some and all",
            "send {\"addresses\": [\"0000:01:00.0\"]} for these devices, or {\"all\": true} for all",
        ));
    }
    let addresses = body.addresses.iter().map(|key| engine.devices().address_of(key));
    let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
    let all = engine.devices().return_unclaimed(&addresses)?;
    let show = |one: engine::ReturnedDevice| ReturnedDevice {
        pci_address: one.address.to_string(),
        outcome: match one.outcome {
            Returned::Unchanged => "unchanged",
            Returned::Restored => "restored",
            Returned::Left => "left",
        }
        .to_owned(),
        reason: one.reason,
        driver: one.driver,
    };
    Ok(all.into_iter().map(show).collect())
}

/// The report as the REST API has it.
#[must_use]
pub fn report(report: RecoveryReport) -> Report {
    Report {
        finished: report.finished,
        undone: report.undone,
        restored: report.restored,
        adopted: report.adopted,
        notes: report.notes,
    }
}
