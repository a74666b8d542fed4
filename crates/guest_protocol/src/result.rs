//! How the command ended.

use serde::{Deserialize, Serialize};

/// How the command ended. Exactly one of the first three is there, in a record of a guest that can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// It exited with this status. 127: not found, 126: found, but it cannot be executed; then `error` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// This signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// It did not start, or the guest could not be set up: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl CommandResult {
    /// The command exited with this status.
    #[must_use]
    pub fn exited(code: u8) -> Self {
        Self { exit_code: Some(code), ..Self::default() }
    }

    /// This signal ended the command.
    #[must_use]
    pub fn signaled(signal: u8) -> Self {
        Self { signal: Some(signal), ..Self::default() }
    }

    /// The guest could not be set up.
    #[must_use]
    pub fn failed(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }

    /// The exit status as a shell and podman have it: 128 and the signal's number for a signal; none if it never ran.
    #[must_use]
    pub fn status(&self) -> Option<u8> {
        self.exit_code.or_else(|| self.signal.map(|signal| 128_u8.saturating_add(signal)))
    }
}
