//! Load a kernel module.

use std::time::Duration;

use super::{Binding, LocksBesides, StepFacts, WhenAbsent};

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "load_module",
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
pub fn describe(module: &str) -> String {
    format!("load {module}")
}
