//! Return an unbound function to its original driver.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "return",
    undone_by: Some(StepKind::Unbind),
    deadline: Duration::from_secs(90),
    undo_order: Some(UndoOrder::Return),
    binding: Binding::ToOwn,
    locks_besides: LocksBesides::HostToRescan,
    observing_can_block: false,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::FoundAgain,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that unbinds it again.
pub const fn inverse(address: Address, driver: String) -> Step {
    Step::Unbind { address, driver }
}

/// The step in words.
pub fn describe(address: Address, driver: &str) -> String {
    format!("return {address} to {driver}")
}
