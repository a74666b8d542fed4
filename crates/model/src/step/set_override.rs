//! Write `driver_override`: which driver alone may have a function.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// What is fixed of it.
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

/// The step that puts back what was there.
pub const fn inverse(address: Address, from: Option<String>, to: Option<String>) -> Step {
    Step::SetOverride { address, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, to: Option<&str>) -> String {
    match to {
        Some(driver) => format!("reserve {address} for {driver}"),
        None => format!("clear the reservation of {address}"),
    }
}
