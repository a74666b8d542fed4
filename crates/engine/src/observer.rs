//! Events of the journal, for observers.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::Action;
use crate::operation::{OperationKind, Outcome};

/// A boundary of the journal: just after a commit, or between a change of the host and the commit of its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JournalEvent {
    /// An operation was recorded and starts.
    Opened {
        /// Id of the instance or claim that the operation changes.
        subject: Uuid,
        /// Kind of the operation.
        operation: OperationKind,
    },
    /// The intent of a step was recorded; the host is not changed yet.
    Intended {
        /// Id of the instance or claim that the operation changes.
        subject: Uuid,
        /// The step.
        action: Action,
    },
    /// The host was changed; the outcome is not recorded yet.
    Performed {
        /// Id of the instance or claim that the operation changes.
        subject: Uuid,
        /// The step.
        action: Action,
    },
    /// The outcome of a step was recorded.
    Recorded {
        /// Id of the instance or claim that the operation changes.
        subject: Uuid,
        /// The step.
        action: Action,
    },
    /// The end of an operation was recorded.
    Closed {
        /// Id of the instance or claim that the operation changes.
        subject: Uuid,
        /// Kind of the operation.
        operation: OperationKind,
        /// How it ended.
        outcome: Outcome,
    },
}

impl JournalEvent {
    /// A short description, for progress output.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Opened { operation, .. } => format!("{operation}: started"),
            Self::Intended { action, .. } => action.describe(),
            Self::Performed { action, .. } => format!("{}: performed", action.describe()),
            Self::Recorded { action, .. } => format!("{}: done", action.describe()),
            Self::Closed { operation, outcome, .. } => format!("{operation}: {}", outcome.word()),
        }
    }
}

/// Receives every event of the journal, in the thread that works on the operation. It feeds progress and event streams;
/// crash tests end the process in it.
pub trait Observer: Send + Sync {
    /// Called at each boundary of the journal; blocks the operation until it returns.
    fn reached(&self, event: &JournalEvent);
}

/// An observer that ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn reached(&self, _event: &JournalEvent) {}
}
