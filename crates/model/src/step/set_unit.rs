//! Start or stop a systemd unit.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_unit",
    undone_by: Some(StepKind::SetUnit),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Units),
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

/// The step that starts or stops it again.
pub const fn inverse(address: Address, unit: String, from: bool, to: bool) -> Step {
    Step::SetUnit { address, unit, from: to, to: from }
}

/// The step in words.
pub fn describe(unit: &str, to: bool) -> String {
    format!("{} {unit}", if to { "start" } else { "stop" })
}
