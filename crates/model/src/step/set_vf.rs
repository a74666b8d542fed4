//! Tell a physical function what one of its virtual functions may do.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::{Address, VfSettings};

/// What is fixed of it.
pub const FACTS: StepFacts = StepFacts {
    name: "set_vf",
    undone_by: Some(StepKind::SetVf),
    deadline: Duration::from_secs(10),
    undo_order: Some(UndoOrder::Parent),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: true,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that puts back what it was told before.
pub const fn inverse(
    address: Address,
    parent: Address,
    index: u16,
    from: VfSettings,
    to: VfSettings,
) -> Step {
    Step::SetVf { address, parent, index, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, parent: Address, index: u16, to: &VfSettings) -> String {
    format!("tell {parent} of its virtual function {index} ({address}): {to}")
}
