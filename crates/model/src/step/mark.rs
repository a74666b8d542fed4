//! Mark a function as claimed.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::{Address, Mark};

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "mark",
    undone_by: Some(StepKind::Unmark),
    deadline: Duration::from_secs(10),
    undo_order: Some(UndoOrder::Mark),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: false,
    // A process outside the initial user namespace can neither set nor read a mark.
    shows: false,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that removes the mark.
pub const fn inverse(address: Address, mark: Mark) -> Step {
    Step::Unmark { address, mark }
}

/// The step in words.
pub fn describe(address: Address) -> String {
    format!("mark {address} as claimed")
}
