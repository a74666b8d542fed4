//! Devices brought back to their own drivers, and reports of a recovery.

use api::{RecoverDevices, RecoveredDevice, Report};
use engine::{Engine, Recovered, RecoveryReport};
use model::{Address, Refusal};

/// Brings devices back to their own drivers.
///
/// # Errors
/// `invalid_pci_address`, `device_not_found`; where the host cannot be read.
pub fn recover(engine: &Engine, body: &RecoverDevices) -> Result<Vec<RecoveredDevice>, Refusal> {
    let addresses = body.addresses.iter().map(|text| text.parse::<Address>());
    let addresses: Vec<Address> = addresses.collect::<Result<_, _>>()?;
    let all = engine.recover_devices(&addresses)?;
    let show = |one: engine::RecoveredDevice| RecoveredDevice {
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
