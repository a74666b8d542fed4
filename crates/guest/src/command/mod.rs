//! Starting a command as the image wants it: exactly its arguments, its user, its environment.

mod environment;
mod failure;
mod stage;
mod start;
mod users;

pub use environment::environment;
pub use failure::CommandFailure;
pub use stage::{become_command, stage};
pub use start::{Input, Started, start};

use serde::{Deserialize, Serialize};

/// The role of the process that turns into a command.
pub const STAGE: &str = "run";

/// A command and its surroundings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CommandSpec {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// The image's environment, and what was added.
    pub env: Vec<String>,
    /// The image's `User`.
    pub user: String,
    /// The working directory.
    pub working_dir: String,
    /// Standard input is its terminal.
    pub terminal: bool,
    /// It stays in the session of this process: it becomes process 1.
    pub same_session: bool,
}
