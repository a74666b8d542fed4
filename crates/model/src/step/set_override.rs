//! Write `driver_override`: the only driver that may bind a function.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_override",
    undone_by: Some(StepKind::SetOverride),
    deadline: Duration::from_secs(10),
    undo_order: Some(UndoOrder::Override),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: true,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: true,
    stands_alone: false,
};

/// The step that restores the old value.
pub const fn inverse(address: Address, from: Option<String>, to: Option<String>) -> Step {
    Step::SetOverride { address, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, to: Option<&str>) -> String {
    match to {
        Some(driver) => format!("set driver_override of {address} to {driver}"),
        None => format!("clear driver_override of {address}"),
    }
}
