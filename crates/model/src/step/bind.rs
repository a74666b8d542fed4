//! Bind an unbound function to a vfio driver.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "bind",
    undone_by: Some(StepKind::Unbind),
    deadline: Duration::from_secs(60),
    undo_order: None,
    binding: Binding::ToVfio,
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

/// The step that unbinds it again.
pub const fn inverse(address: Address, driver: String) -> Step {
    Step::Unbind { address, driver }
}

/// The step in words.
pub fn describe(address: Address, driver: &str) -> String {
    format!("bind {address} to {driver}")
}
