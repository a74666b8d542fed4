//! The handshake, the state, and commands.

use serde::{Deserialize, Serialize};

use crate::CommandResult;

/// The client's first message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The token of the guest's configuration.
    pub token: String,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// The agent's answer to a client that it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`crate::PROTOCOL_VERSION`] of the guest.
    pub protocol: u32,
    /// The version of the guest's executable.
    pub version: String,
    /// What its command does.
    pub state: CommandState,
}

/// What the guest's command does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// It has not begun yet.
    #[default]
    Starting,
    /// It runs.
    Running {
        /// Its process, as the guest numbers it.
        pid: i32,
    },
    /// It has ended.
    Ended(CommandResult),
}

/// Why the agent does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable word: `not_found`, `not_executable`, `denied`, `busy`, `invalid`, `failed`.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// Runs a command beside the guest's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecRequest {
    /// The command and its arguments. No shell reads it.
    pub argv: Vec<String>,
    /// Added to the environment of the guest's command, as `NAME=value`.
    pub env: Vec<String>,
    /// The working directory. Empty: that of the guest's command.
    pub working_dir: String,
    /// The user, as in the image's `User`. None: that of the guest's command.
    pub user: Option<String>,
    /// It gets a terminal of this size. Standard error then comes as standard output.
    pub terminal: Option<WindowSize>,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Stops the guest's command and switches the guest off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopRequest {
    /// Seconds between the stop signal and `SIGKILL`. None: as the configuration says.
    pub timeout_seconds: Option<u32>,
    /// The signal. None: the image's.
    pub signal: Option<String>,
}
