//! Set the persistence mode of one NVIDIA GPU.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_persistence",
    undone_by: Some(StepKind::SetPersistence),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Persistence),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: true,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Undone,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that restores the old value.
pub const fn inverse(address: Address, from: bool, to: bool) -> Step {
    Step::SetPersistence { address, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, to: bool) -> String {
    format!("switch persistence mode of {address} {}", super::on_or_off(to))
}
