//! Create a mediated device.

use std::time::Duration;

use uuid::Uuid;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "create_mdev",
    undone_by: Some(StepKind::RemoveMdev),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Parent),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that removes it.
pub const fn inverse(address: Address, uuid: Uuid, type_id: String) -> Step {
    Step::RemoveMdev { address, uuid, type_id }
}

/// The step in words.
pub fn describe(address: Address, uuid: Uuid, type_id: &str) -> String {
    format!("create mediated device {uuid} ({type_id}) on {address}")
}
