//! Remove the mark of a claim.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::{Address, Mark};

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "unmark",
    undone_by: Some(StepKind::Mark),
    deadline: Duration::from_secs(10),
    undo_order: Some(UndoOrder::Mark),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    // The mark disappears with its function.
    when_absent: WhenAbsent::Undone,
    set_by_drivers: false,
    recorded_unchanged: false,
    // A mark of another claim stays.
    stands_alone: true,
};

/// The step that marks it again.
pub const fn inverse(address: Address, mark: Mark) -> Step {
    Step::Mark { address, mark }
}

/// The step in words.
pub fn describe(address: Address) -> String {
    format!("remove the mark of {address}")
}
