//! Let a virtual console go of its driver, or take it again.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_console",
    undone_by: Some(StepKind::SetConsole),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Consoles),
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
pub const fn inverse(address: Address, console: u32, from: bool, to: bool) -> Step {
    Step::SetConsole { address, console, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, console: u32, to: bool) -> String {
    match to {
        true => format!("draw the text console on {address} again (vtcon{console})"),
        false => format!("stop drawing the text console on {address} (vtcon{console})"),
    }
}
