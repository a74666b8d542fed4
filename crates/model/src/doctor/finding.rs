//! Findings of the doctor.

use serde::{Deserialize, Serialize};

use crate::Address;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Severity {
    /// As it should be.
    Good,
    /// Good to know.
    Note,
    /// Could not be read, for the reason shown: usually root is needed.
    Unseen,
    /// Hand-overs work, at least for some devices, but something should be fixed.
    Warning,
    /// A hand-over is not possible.
    Impossible,
}

/// One result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// The check's stable name: `iommu`, `group-isolation`, `boot-framebuffer`, ...
    pub check: String,
    /// Severity of a finding.
    pub severity: Severity,
    /// The function concerned; `None` for the whole host.
    pub address: Option<Address>,
    /// What was read, and from where: `/proc/cmdline has no intel_iommu=on`.
    pub read: String,
    /// What that means for a hand-over.
    pub meaning: String,
    /// How to fix it on this system; `None` where nothing needs to be done.
    pub remedy: Option<Remedy>,
}

/// How to fix a problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Remedy {
    /// In words.
    pub words: String,
    /// The commands for this system, to run as root in this order; empty where no command can do it (firmware, a slot).
    pub commands: Vec<String>,
    /// Whether the fix needs a reboot to take effect.
    pub reboot: bool,
}

impl Remedy {
    /// Combines two remedies: `self` first, then `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        if !self.words.is_empty() && !other.words.is_empty() {
            self.words += "; ";
        }
        self.words += &other.words;
        self.commands.extend(other.commands);
        self.reboot |= other.reboot;
        self
    }
}

/// All findings of the doctor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// Sorted by severity (worst first), check and address.
    pub findings: Vec<Finding>,
    /// What can be handed over; absent if only one function was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Devices>,
}

/// The devices that are usually handed over (GPUs, accelerators, NICs and NVMe drives), each with its assembly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Devices {
    /// Those that can be handed over now.
    pub ready: Vec<Address>,
    /// Those that could be, but are in use: by the host, by a claim, or all their partitions are.
    pub in_use: Vec<Address>,
    /// Those that are split, and of which partitions can be handed over: virtual functions, mediated devices, vGPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_parts: Vec<Address>,
    /// Those that cannot be handed over.
    pub barred: Vec<Address>,
}

impl Verdict {
    /// Sorts the findings.
    #[must_use]
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| {
            (b.severity, &a.check, a.address).cmp(&(a.severity, &b.check, b.address))
        });
        Self { findings, devices: None }
    }

    /// The worst severity of all findings. If every device is barred for a reason of its own, no hand-over is possible.
    #[must_use]
    pub fn worst(&self) -> Severity {
        let barred = self.devices.as_ref().is_some_and(|devices| {
            let possible = [&devices.ready, &devices.in_use, &devices.in_parts];
            possible.iter().all(|list| list.is_empty()) && !devices.barred.is_empty()
        });
        if barred {
            return Severity::Impossible;
        }
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Good)
    }
}
