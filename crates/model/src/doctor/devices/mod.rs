//! Checks of single devices, one file per subject.
//!
//! Every check examines a [`Case`]: one assembly, because that is what is handed over. For one function, the doctor
//! reports every finding of its assembly, also good ones. For the whole host, it examines the assemblies that are
//! usually handed over, and reports only what matters (see [`overview`]).

mod bars;
mod catalog;
mod claimed;
mod desktop;
mod display;
mod drivers;
mod fabric;
mod faults;
mod holders;
mod isolation;
mod link;
mod overview;
mod power;
mod reset;
mod reset_bugs;
mod sriov;
mod unreadable;
mod vgpu;

#[cfg(test)]
mod tests;

pub use catalog::CHECKS;
pub use overview::sorted;
pub use reset::resets_on;

use super::{Finding, Patient, Remedy, Severity};
use crate::{Address, Assembly, Function, Kind, no_such_function};

/// A check of one case. It reports good results too.
type Check = fn(&Case<'_>) -> Vec<Finding>;

/// Every check of a case after `assignable`, in the order in which an administrator would check.
const EVERY: &[Check] = &[
    claimed::own,
    isolation::group,
    holders::in_use,
    display::boot_vga,
    display::boot_framebuffer,
    desktop::x11_configuration,
    desktop::nouveau,
    drivers::native,
    drivers::overrides,
    drivers::variant,
    reset::way,
    reset_bugs::known,
    power::asleep,
    link::narrow,
    faults::removable,
    faults::parity,
    bars::window,
    bars::resizable,
    sriov::parts,
    vgpu::mechanism,
    fabric::joined,
    unreadable::notes,
];

/// Runs every check of devices, or of one device.
pub fn all(patient: Patient<'_>, only: Option<Address>) -> Vec<Finding> {
    match only {
        Some(address) => match Case::of(patient, address) {
            Some(case) => case.examine(),
            None => vec![not_there(address)],
        },
        None => overview::all(patient),
    }
}

/// The firmware framebuffers on the assembly of a function.
#[must_use]
pub fn framebuffers(patient: Patient<'_>, address: Address) -> Vec<Finding> {
    let mut findings =
        Case::of(patient, address).map(|case| display::boot_framebuffer(&case)).unwrap_or_default();
    findings.retain(|finding| finding.severity != Severity::Good);
    findings
}

/// One assembly on one host.
struct Case<'a> {
    patient: Patient<'a>,
    assembly: Assembly,
    head: &'a Function,
}

impl<'a> Case<'a> {
    /// The case of a function's assembly; `None` if there is no such function.
    fn of(patient: Patient<'a>, address: Address) -> Option<Self> {
        let head = patient.inventory.function(address)?;
        let assembly = Assembly::of(patient.inventory, address)?;
        Some(Self { patient, assembly, head })
    }

    fn examine(&self) -> Vec<Finding> {
        let assignable = isolation::assignable(self);
        // Bridges are part of the host: no other check applies to them.
        if matches!(self.head.class.prefix(), 0x0600 | 0x0601) || self.head.kind() == Kind::Bridge {
            return assignable;
        }
        let rest = EVERY.iter().flat_map(|check| check(self));
        assignable.into_iter().chain(rest).collect()
    }

    /// Whether the assembly itself has no obstacle, regardless of the host.
    fn can_go(&self) -> bool {
        isolation::obstacles(self).next().is_none()
    }

    /// Whether a claim has the assembly, or partitions of it.
    fn is_claimed(&self) -> bool {
        self.patient.own.claims_of(&self.assembly).next().is_some()
    }

    /// The functions that the hand-over takes from the host.
    fn taken(&self) -> impl Iterator<Item = &'a Function> {
        let inventory = self.patient.inventory;
        self.assembly.taken().filter_map(move |member| inventory.function(member.address))
    }

    /// The functions that go into the machine.
    fn guests(&self) -> impl Iterator<Item = &'a Function> {
        let inventory = self.patient.inventory;
        self.assembly.guests().filter_map(move |member| inventory.function(member.address))
    }

    /// A finding about the case's own function.
    fn finding(
        &self,
        check: &str,
        severity: Severity,
        read: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Finding {
        about(self.head.address, check, severity, read, meaning)
    }
}

/// A finding about a function, without a remedy.
fn about(
    address: Address,
    check: &str,
    severity: Severity,
    read: impl Into<String>,
    meaning: impl Into<String>,
) -> Finding {
    Finding {
        check: check.into(),
        severity,
        address: Some(address),
        read: read.into(),
        meaning: meaning.into(),
        remedy: None,
    }
}

/// The same finding with a remedy.
fn with_remedy(finding: Finding, words: impl Into<String>, commands: Vec<String>) -> Finding {
    let remedy = Remedy { words: words.into(), commands, reboot: false };
    Finding { remedy: Some(remedy), ..finding }
}

/// The finding for an address without a function.
fn not_there(address: Address) -> Finding {
    let refusal = no_such_function(address);
    let meaning = "there is nothing to hand over";
    let finding = about(address, "assignable", Severity::Impossible, refusal.message, meaning);
    with_remedy(finding, refusal.remedy, Vec::new())
}

/// `a`, `a and b`, `a, b and c`.
fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let mut words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match words.pop() {
        None => String::new(),
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} and {last}", words.join(", ")),
    }
}
