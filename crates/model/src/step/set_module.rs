//! Unload a module that uses the card's driver, or load it again.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_module",
    undone_by: Some(StepKind::SetModule),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Modules),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Undone,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: true,
};

/// The step that restores the old value.
pub const fn inverse(address: Address, module: String, from: bool, to: bool) -> Step {
    Step::SetModule { address, module, from: to, to: from }
}

/// The step in words.
pub fn describe(module: &str, to: bool) -> String {
    format!("{} the module {module}", if to { "load" } else { "unload" })
}
