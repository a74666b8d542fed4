//! Operations in the journal: their kinds and states, and the words by which these are stored. The state machine is
//! drawn in `docs/design.md`, "State machines".

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::Action;

/// Kind of an operation.
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
    /// Gives a running machine a device.
    Attach,
    /// Takes a device from a running machine.
    Detach,
    /// Claims devices and prepares them.
    Claim,
    /// Prepares a reserved claim.
    Prepare,
    /// Restores a claim's devices; the claim stays reserved.
    Unprepare,
    /// Restores a claim's devices and removes the claim.
    Release,
    /// Retries a rollback that failed.
    Restore,
    /// Returns unclaimed devices to their native drivers.
    #[serde(alias = "recover")]
    Return,
    /// Changes the number of a device's virtual functions.
    VfCount,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Delete,
        Self::Attach,
        Self::Detach,
        Self::Claim,
        Self::Prepare,
        Self::Unprepare,
        Self::Release,
        Self::Restore,
        Self::Return,
        Self::VfCount,
    ];

    /// Whether it only gives something back: devices, a machine's memory, space on the disk. Such operations are possible on a
    /// full disk.
    #[must_use]
    pub const fn gives_back(self) -> bool {
        matches!(
            self,
            Self::Stop
                | Self::Delete
                | Self::Detach
                | Self::Unprepare
                | Self::Release
                | Self::Restore
                | Self::Return
        )
    }

    /// The word by which it is stored and shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Delete => "delete",
            Self::Attach => "attach",
            Self::Detach => "detach",
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
    /// It succeeded.
    Done,
    /// It failed, and its changes were rolled back.
    Undone,
    /// It failed, and some changes could not be rolled back: they need a retry or manual attention.
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
    /// Running, or left open by a daemon that died or could not write the journal.
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
    /// Recorded; it may have been performed.
    Intended,
    /// Performed.
    Done,
    /// It failed, and may have changed something.
    Failed,
    /// Nothing to do: the host was already in the step's end state.
    Skipped,
    /// Performed, then rolled back.
    Undone,
    /// Performed in an earlier boot; its effect ended with that boot.
    Void,
}

impl StepState {
    /// Whether the step may have changed the host, so that it must be undone.
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

/// An operation in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Number; later operations have greater ones.
    pub id: i64,
    /// Kind.
    pub kind: OperationKind,
    /// Id of the instance, claim or device configuration that it changes.
    pub subject: Uuid,
    /// Whether it is running, or how it ended.
    pub state: OperationState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The error, if any.
    pub error: Option<String>,
    /// Its steps, in order of execution.
    pub steps: Vec<OperationStep>,
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationStep {
    /// What it does.
    pub action: Action,
    /// State.
    pub state: StepState,
    /// The error, if any.
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
