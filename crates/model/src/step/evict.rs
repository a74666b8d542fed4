//! Ask a process to exit, and wait for it.

use std::time::Duration;

use super::{Binding, LocksBesides, StepFacts, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "evict",
    undone_by: None,
    deadline: Duration::from_secs(60),
    undo_order: None,
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

/// The step in words.
pub fn describe(address: Address, user: &str) -> String {
    format!("ask {user} to release {address}")
}
