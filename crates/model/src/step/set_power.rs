//! Write `power/control`: whether a function may be suspended.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::{Address, PowerControl};

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_power",
    undone_by: Some(StepKind::SetPower),
    deadline: Duration::from_secs(10),
    undo_order: Some(UndoOrder::Power),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: true,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that restores the old value.
pub const fn inverse(address: Address, from: PowerControl, to: PowerControl) -> Step {
    Step::SetPower { address, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, to: PowerControl) -> String {
    format!("set power control of {address} to {}", to.as_str())
}
