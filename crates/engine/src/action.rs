//! What an operation does: steps on devices, by the host, and steps of machines, by a launcher.

use model::Step;
use serde::{Deserialize, Serialize};

/// What is done to the host: a step on a device, or one of a machine's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "port", rename_all = "snake_case")]
pub enum Action {
    /// A step on a device, by the host.
    Device(Step),
    /// A step of a machine, by the launcher.
    Machine(MachineStep),
}

/// A change that the launcher makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineStep {
    /// Make the machine's directory and disk layer.
    CreateFiles,
    /// Start the VMM.
    Launch,
    /// End the VMM.
    End,
    /// Remove the machine's files.
    RemoveFiles,
}

impl Action {
    /// The action in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Device(step) => step.describe(),
            Self::Machine(MachineStep::CreateFiles) => "make the machine's files".into(),
            Self::Machine(MachineStep::Launch) => "start the machine".into(),
            Self::Machine(MachineStep::End) => "end the machine".into(),
            Self::Machine(MachineStep::RemoveFiles) => "remove the machine's files".into(),
        }
    }
}
