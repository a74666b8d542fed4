//! Configure a virtual function at its physical function.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::{Address, VfSettings};

/// The facts of this kind.
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

/// The step that restores the old settings.
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
    format!("set virtual function {index} of {parent} ({address}): {to}")
}
