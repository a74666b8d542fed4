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

pub use finding::{Finding, Remedy, Severity, Verdict};
pub use platform::{
    BootLoader, Cpu, FirmwareTables, Framebuffer, HugePages, InitramfsTool, IommuDevice, Module,
    NodeFacts, Platform, Process, Security, Tool, version,
};
pub use programs::{Purpose, full_name, purpose};

use crate::{Address, Holder, Inventory};

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
