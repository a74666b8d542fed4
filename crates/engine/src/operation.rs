//! Operations as the journal has them: their kinds, their states, and the words by which these are stored. The states and
//! what leads from one to another are drawn in `docs/design.md`, "State machines".

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::Action;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Creates an instance.
    Create,
    /// Starts a stopped instance.
    Start,
    /// Stops an instance.
    Stop,
    /// Deletes an instance.
    Delete,
    /// Makes a claim and prepares it.
    Claim,
    /// Prepares a reserved claim.
    Prepare,
    /// Returns a claim's devices; the claim stays reserved.
    Unprepare,
    /// Returns a claim's devices and removes the claim.
    Release,
    /// Retries what could not be returned before.
    Restore,
    /// Returns devices that no claim has to their native drivers.
    #[serde(alias = "recover")]
    Return,
    /// Changes the number of a device's virtual functions.
    VfCount,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Delete,
        Self::Claim,
        Self::Prepare,
        Self::Unprepare,
        Self::Release,
        Self::Restore,
        Self::Return,
        Self::VfCount,
    ];

    /// The word by which it is stored and shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Delete => "delete",
            Self::Claim => "claim",
            Self::Prepare => "prepare",
            Self::Unprepare => "unprepare",
            Self::Release => "release",
            Self::Restore => "restore",
            Self::Return => "return",
            Self::VfCount => "vf-count",
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did what it is for.
    Done,
    /// It failed, and its changes were rolled back.
    Undone,
    /// It failed, and something is left for a person or a later retry.
    Failed,
}

impl Outcome {
    /// The word by which it is stored and shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Failed => "failed",
        }
    }
}

/// The state of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// Under way, or left behind by a daemon that died or could not write the journal.
    Open,
    /// See [`Outcome::Done`].
    Done,
    /// See [`Outcome::Undone`].
    Undone,
    /// See [`Outcome::Failed`].
    Failed,
}

impl OperationState {
    /// The word by which it is stored and shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Failed => "failed",
        }
    }
}

impl From<Outcome> for OperationState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Undone => Self::Undone,
            Outcome::Failed => Self::Failed,
        }
    }
}

/// The state of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Recorded, and perhaps made.
    Intended,
    /// Made.
    Done,
    /// It failed, and may have changed something.
    Failed,
    /// The host already was as the step would make it.
    Skipped,
    /// Made, and rolled back since.
    Undone,
    /// Of an earlier boot, with which its effect went.
    Void,
}

impl StepState {
    /// Whether its effect may be on the host, so that it has to be undone.
    #[must_use]
    pub const fn is_outstanding(self) -> bool {
        match self {
            Self::Intended | Self::Done | Self::Failed => true,
            Self::Skipped | Self::Undone | Self::Void => false,
        }
    }

    /// The word by which it is stored and shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Undone => "undone",
            Self::Void => "void",
        }
    }
}

/// An operation as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its number; later ones are greater.
    pub id: i64,
    /// What it does.
    pub kind: OperationKind,
    /// The instance or claim that it is about.
    pub subject: Uuid,
    /// Whether it is under way, or how it ended.
    pub state: OperationState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What went wrong, where something did.
    pub error: Option<String>,
    /// Its steps in the order in which they were made.
    pub steps: Vec<OperationStep>,
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationStep {
    /// What was done.
    pub action: Action,
    /// How far it came.
    pub state: StepState,
    /// What went wrong, where something did.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: &impl Serialize) -> String {
        serde_json::to_value(value).unwrap_or_default().as_str().unwrap_or_default().to_owned()
    }

    #[test]
    fn words_are_what_is_stored() {
        for kind in OperationKind::ALL {
            assert_eq!(stored(&kind), kind.word());
        }
        for outcome in [Outcome::Done, Outcome::Undone, Outcome::Failed] {
            let state = OperationState::from(outcome);
            assert_eq!(stored(&state), state.word());
            assert_eq!(stored(&outcome), state.word());
        }
        use StepState::{Done, Failed, Intended, Skipped, Undone, Void};
        for state in [Intended, Done, Failed, Skipped, Undone, Void] {
            assert_eq!(stored(&state), state.word());
        }
    }
}
