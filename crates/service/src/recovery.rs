//! Devices brought back to their own drivers, and reports of a recovery.

use api::{RecoverDevices, RecoveredDevice, Report};
use engine::{Engine, RecoveryReport, Returned};
use model::{Address, Refusal};

/// Brings devices back to their own drivers.
///
/// # Errors
/// `invalid_pci_address`, `device_not_found`; where the host cannot be read.
pub fn recover(engine: &Engine, body: &RecoverDevices) -> Result<Vec<RecoveredDevice>, Refusal> {
    let addresses = body.addresses.iter().map(|text| text.parse::<Address>());
    let addresses: Vec<Address> = addresses.collect::<Result<_, _>>()?;
    let all = engine.devices().return_unclaimed(&addresses)?;
    let show = |one: engine::ReturnedDevice| RecoveredDevice {
        pci_address: one.address.to_string(),
        outcome: match one.outcome {
            Returned::Well => "well",
            Returned::Restored => "restored",
            Returned::Left => "left",
        }
        .to_owned(),
        reason: one.reason,
        driver: one.driver,
    };
    Ok(all.into_iter().map(show).collect())
}

/// A report as the wire shows it.
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
