//! What the engine tells while it works.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::Action;
use crate::operation::{OperationKind, Outcome};

/// A place in the journal: just after a commit, or between the host's change and the commit of its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JournalEvent {
    /// An operation was recorded and begins.
    Opened {
        /// The instance or claim that it is about.
        subject: Uuid,
        /// What it does.
        operation: OperationKind,
    },
    /// The intent of a step is recorded; the host is not yet touched.
    Intended {
        /// The instance or claim that it is about.
        subject: Uuid,
        /// What will be done.
        action: Action,
    },
    /// The host is changed; the outcome is not yet recorded.
    Performed {
        /// The instance or claim that it is about.
        subject: Uuid,
        /// What was done.
        action: Action,
    },
    /// The outcome of a step is recorded.
    Recorded {
        /// The instance or claim that it is about.
        subject: Uuid,
        /// What was done.
        action: Action,
    },
    /// An operation is recorded as ended.
    Closed {
        /// The instance or claim that it is about.
        subject: Uuid,
        /// What it does.
        operation: OperationKind,
        /// How it ended.
        outcome: Outcome,
    },
}

impl JournalEvent {
    /// The event in words, for progress.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Opened { operation, .. } => format!("{operation}: begins"),
            Self::Intended { action, .. } => action.describe(),
            Self::Performed { action, .. } => format!("{}: made", action.describe()),
            Self::Recorded { action, .. } => format!("{}: done", action.describe()),
            Self::Closed { operation, outcome, .. } => format!("{operation}: {}", outcome.word()),
        }
    }
}

/// Is told of every boundary of the journal, in the thread that works. It feeds progress and event streams; the crash
/// tests end the process in it.
pub trait Observer: Send + Sync {
    /// A boundary was reached.
    fn reached(&self, event: &JournalEvent);
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn reached(&self, _event: &JournalEvent) {}
}
