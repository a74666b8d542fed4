//! Actions of an operation: steps on devices, which the host performs, and steps of machines, which a launcher
//! performs.

use model::{PartPlace, Step};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One recorded change: a step on a device, or a step of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "port", rename_all = "snake_case")]
pub enum Action {
    /// A step on a device, performed by the host.
    Device(Step),
    /// A step of a machine, performed by the launcher.
    Machine(MachineStep),
}

/// A change that the launcher performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineStep {
    /// Create the machine's directory and disk layer.
    CreateFiles,
    /// Start the VMM.
    Launch,
    /// Stop the VMM.
    End,
    /// Remove the machine's files.
    RemoveFiles,
    /// Plug the device of a claim into the running machine.
    Plug {
        /// The claim.
        claim: Uuid,
    },
    /// Ask the guest to let go of the device of a claim.
    Unplug {
        /// The claim.
        claim: Uuid,
    },
    /// Plug a disk or network card into the running machine.
    PlugPart {
        /// Where.
        place: PartPlace,
    },
    /// Ask the guest to let go of a disk or network card.
    UnplugPart {
        /// Where it is.
        place: PartPlace,
    },
}

impl Action {
    /// A short description, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Device(step) => step.describe(),
            Self::Machine(MachineStep::CreateFiles) => "create the machine's files".into(),
            Self::Machine(MachineStep::Launch) => "start the machine".into(),
            Self::Machine(MachineStep::End) => "stop the machine".into(),
            Self::Machine(MachineStep::RemoveFiles) => "remove the machine's files".into(),
            Self::Machine(MachineStep::Plug { .. }) => "plug the device into the machine".into(),
            Self::Machine(MachineStep::Unplug { .. }) => {
                "take the device out of the machine".into()
            }
            Self::Machine(MachineStep::PlugPart { place: PartPlace { kind, .. } }) => {
                format!("plug the {} into the machine", kind.word())
            }
            Self::Machine(MachineStep::UnplugPart { place: PartPlace { kind, .. } }) => {
                format!("take the {} out of the machine", kind.word())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_machines_are_stored_with_their_claims() {
        let claim = Uuid::from_u128(1);
        let place = PartPlace { port: 2, kind: model::PartKind::Disk };
        let all = [
            MachineStep::Launch,
            MachineStep::Plug { claim },
            MachineStep::Unplug { claim },
            MachineStep::PlugPart { place },
            MachineStep::UnplugPart { place },
        ];
        for step in all {
            let action = Action::Machine(step);
            let text = serde_json::to_string(&action).unwrap();
            assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action, "{text}");
        }
    }
}
