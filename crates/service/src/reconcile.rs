//! Returning devices to their native drivers, and reports of a recovery.

use api::{Report, ReturnDevices, ReturnedDevice};
use engine::{Engine, Recovered, RecoveryReport};
use model::{Address, Refusal};

/// Returns unclaimed devices to their native drivers.
///
/// # Errors
/// `invalid_pci_address`, `device_not_found`, or the host cannot be read.
pub fn return_devices(
    engine: &Engine,
    body: &ReturnDevices,
) -> Result<Vec<ReturnedDevice>, Refusal> {
    let addresses = body.addresses.iter().map(|text| text.parse::<Address>());
    let addresses: Vec<Address> = addresses.collect::<Result<_, _>>()?;
    let all = engine.recover_devices(&addresses)?;
    let show = |one: engine::RecoveredDevice| ReturnedDevice {
        pci_address: one.address.to_string(),
        outcome: match one.outcome {
            Recovered::Well => "well",
            Recovered::Restored => "restored",
            Recovered::Left => "left",
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
        adopted: report.adopted.iter().map(ToString::to_string).collect(),
        notes: report.notes,
    }
}
