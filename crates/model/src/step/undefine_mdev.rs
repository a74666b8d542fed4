//! Remove mdevctl's definition of a mediated device.

use std::time::Duration;

use uuid::Uuid;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::MdevDefinition;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "undefine_mdev",
    undone_by: Some(StepKind::DefineMdev),
    // A sync can take long on a busy disk.
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Files),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: true,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: true,
};

/// The step that writes it again.
pub fn inverse(ours: MdevDefinition) -> Step {
    let MdevDefinition { parent: address, uuid, type_id, attributes } = ours;
    Step::DefineMdev { address, uuid, type_id, attributes }
}

/// The step in words.
pub fn describe(uuid: Uuid) -> String {
    format!("remove mdevctl's definition of {uuid}")
}
