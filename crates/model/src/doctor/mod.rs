//! The doctor: what stands in the way of hand-overs on a host, and how to mend it there.
//!
//! A check is a pure function of a [`Patient`]: the inventory in detail, who uses what, and the [`Platform`] around the
//! devices. It answers with [`Finding`]s; a check that found everything right says so, so that a person sees what was
//! looked at. What could not be seen is a finding too ([`Severity::Unseen`]), never a silent "fine".

mod devices;
mod finding;
mod platform;
mod programs;
pub mod remedy;
mod rules;

pub use devices::framebuffers;
pub use finding::{Finding, Remedy, Severity, Verdict};
pub use platform::{
    BootLoader, Cpu, FirmwareTables, Framebuffer, HugePages, IommuDevice, MemoryRegion, Module,
    NodeFacts, Platform, Process, Security, Tool, version,
};
pub use programs::{Purpose, full_name, purpose};

pub use crate::boot_list::InitramfsTool;

use serde::{Deserialize, Serialize};

use crate::{Address, Holder, Inventory, Refusal, no_such_function};

/// Everything that the checks look at.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
    /// The hardware, in detail.
    pub inventory: &'a Inventory,
    /// Who uses what.
    pub holders: &'a [Holder],
    /// The rest of the host.
    pub platform: &'a Platform,
}

/// What was read of a host for the checks to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The hardware, in detail.
    pub inventory: Inventory,
    /// Who uses what.
    pub holders: Vec<Holder>,
    /// The rest of the host.
    pub platform: Platform,
}

impl Facts {
    /// Runs every check on them, as [`examine`] does.
    ///
    /// # Errors
    /// Where there is no function at the address.
    pub fn examine(&self, only: Option<Address>) -> Result<Verdict, Refusal> {
        if let Some(address) = only
            && self.inventory.function(address).is_none()
        {
            return Err(no_such_function(address));
        }
        let Self { inventory, holders, platform } = self;
        Ok(examine(Patient { inventory, holders, platform }, only))
    }
}

/// Runs every check; with an address, only what concerns the hand-over of that function: its assembly's own findings
/// and those of the whole host.
#[must_use]
pub fn examine(patient: Patient<'_>, only: Option<Address>) -> Verdict {
    let mut findings = rules::all(patient);
    findings.extend(devices::all(patient, only));
    Verdict::new(findings)
}

/// Every check: its stable name, and what it looks for; those of the host, then those of single devices.
#[must_use]
pub fn checks() -> [Vec<(&'static str, &'static str)>; 2] {
    [rules::checks().collect(), devices::CHECKS.to_vec()]
}
