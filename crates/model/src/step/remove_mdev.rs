//! Remove a mediated device.

use std::time::Duration;

use uuid::Uuid;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "remove_mdev",
    undone_by: Some(StepKind::CreateMdev),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Partition),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: true,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Undone,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that creates it again.
pub const fn inverse(address: Address, uuid: Uuid, type_id: String) -> Step {
    Step::CreateMdev { address, uuid, type_id }
}

/// The step in words.
pub fn describe(address: Address, uuid: Uuid) -> String {
    format!("remove mediated device {uuid} from {address}")
}
