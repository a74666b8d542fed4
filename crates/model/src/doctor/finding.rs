//! What the doctor says.

use serde::{Deserialize, Serialize};

use crate::Address;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Severity {
    /// As it should be.
    Good,
    /// Good to know.
    Note,
    /// It could not be seen, for the reason that is said: mostly for want of root's rights.
    Unseen,
    /// A hand-over works, or works for some devices, but something is worse than it could be.
    Warning,
    /// A hand-over is not possible.
    Impossible,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// The check's stable name: `iommu`, `group-isolation`, `boot-framebuffer`, ...
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// The function that it is about; `None` for the whole host.
    pub address: Option<Address>,
    /// What was read and where: `/proc/cmdline has no intel_iommu=on`.
    pub read: String,
    /// What that means for a hand-over.
    pub meaning: String,
    /// How to mend it on this system; `None` where nothing is to be done.
    pub remedy: Option<Remedy>,
}

/// How to mend something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Remedy {
    /// In words, for a person.
    pub words: String,
    /// The commands that do it on this system, for root, in their order; empty where no command can (firmware, a slot).
    pub commands: Vec<String>,
    /// Whether the host must be started again for it to take effect.
    pub reboot: bool,
}

impl Remedy {
    /// This remedy, and another one after it.
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

/// All that the doctor found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// The worst first, then by check and address.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Puts findings in their order.
    #[must_use]
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| {
            (b.severity, &a.check, a.address).cmp(&(a.severity, &b.check, b.address))
        });
        Self { findings }
    }

    /// The worst that was found.
    #[must_use]
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Good)
    }
}
