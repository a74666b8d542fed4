//! Write `sriov_drivers_autoprobe`: whether the kernel binds drivers to new virtual functions.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_autoprobe",
    undone_by: Some(StepKind::SetAutoprobe),
    deadline: Duration::from_secs(10),
    undo_order: Some(UndoOrder::Autoprobe),
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

/// The step that restores the old value.
pub const fn inverse(address: Address, from: bool, to: bool) -> Step {
    Step::SetAutoprobe { address, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, to: bool) -> String {
    format!("switch driver autoprobe for virtual functions of {address} {}", super::on_or_off(to))
}
