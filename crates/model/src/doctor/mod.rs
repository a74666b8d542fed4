//! The doctor: what blocks hand-overs on a host, and how to fix it on that system.
//!
//! A check is a pure function of a [`Patient`]: the inventory in detail, who uses what, and the [`Platform`] around the
//! devices. It returns [`Finding`]s. A check that finds no problem says so, which shows what was checked. What could
//! not be read is a finding too ([`Severity::Unseen`]), never a silent "fine".

mod boot_loader;
mod devices;
mod finding;
mod options;
mod platform;
mod programs;
pub mod remedy;
mod rules;

pub use boot_loader::BootLoader;
pub use devices::{framebuffers, resets_on};
pub use finding::{Devices, Finding, Remedy, Severity, Verdict};
pub use platform::{
    Cpu, FirmwareTables, Framebuffer, HugePages, IommuDevice, MemoryRegion, Module, NodeFacts,
    Platform, Process, Security, Tool, X11File, version,
};
pub use programs::{Purpose, full_name, purpose};
pub use rules::is_optional;

pub use crate::boot_list::InitramfsTool;

use serde::{Deserialize, Serialize};

use crate::{Address, Holder, Inventory, OwnState, Refusal, no_such_function};

/// The input of all checks.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
    /// The hardware, in detail.
    pub inventory: &'a Inventory,
    /// Who uses what.
    pub holders: &'a [Holder],
    /// The rest of the host.
    pub platform: &'a Platform,
    /// What Handover's own state says.
    pub own: &'a OwnState,
}

/// The facts of a host that the checks need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The hardware, in detail.
    pub inventory: Inventory,
    /// Who uses what.
    pub holders: Vec<Holder>,
    /// The rest of the host.
    pub platform: Platform,
    /// What Handover's own state says.
    #[serde(skip)]
    pub own: OwnState,
}

impl Facts {
    /// Runs every check, as [`examine`] does.
    ///
    /// # Errors
    /// If no function has the address.
    pub fn examine(&self, only: Option<Address>) -> Result<Verdict, Refusal> {
        if let Some(address) = only
            && self.inventory.function(address).is_none()
        {
            return Err(no_such_function(address));
        }
        let Self { inventory, holders, platform, own } = self;
        Ok(examine(Patient { inventory, holders, platform, own }, only))
    }
}

/// Runs every check. With an address, the findings are those of that function's assembly, and of the host those that
/// concern its kind and are more than a note.
#[must_use]
pub fn examine(patient: Patient<'_>, only: Option<Address>) -> Verdict {
    let mut findings = rules::all(patient);
    if let Some(function) = only.and_then(|address| patient.inventory.function(address)) {
        findings.retain(|finding| {
            finding.severity != Severity::Note && rules::concerns(&finding.check, function)
        });
    }
    let possible = findings.iter().all(|finding| finding.severity != Severity::Impossible);
    findings.extend(devices::all(patient, only));
    let devices = only.is_none().then(|| devices::sorted(patient, possible));
    Verdict { devices, ..Verdict::new(findings) }
}

/// Every check as (stable name, what it checks): first those of the host, then those of devices.
#[must_use]
pub fn checks() -> [Vec<(&'static str, &'static str)>; 2] {
    [rules::checks().collect(), devices::CHECKS.to_vec()]
}
