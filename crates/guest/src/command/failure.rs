//! Why a command did not start.

use serde::{Deserialize, Serialize};

/// Why a command did not start, and the exit status that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandFailure {
    /// 127: not found. 126: it cannot be executed.
    pub code: u8,
    /// A sentence.
    pub message: String,
}

impl CommandFailure {
    /// It was not found.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: 127, message: message.into() }
    }

    /// It cannot be executed.
    pub fn not_executable(message: impl Into<String>) -> Self {
        Self { code: 126, message: message.into() }
    }
}
