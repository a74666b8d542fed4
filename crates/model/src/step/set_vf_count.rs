//! Change the number of virtual functions.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_vf_count",
    undone_by: Some(StepKind::SetVfCount),
    // Measured: more than 30 s for the VFs of eight GPUs, one after another.
    deadline: Duration::from_secs(180),
    undo_order: Some(UndoOrder::VfCount),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::Host,
    observing_can_block: true,
    waits_for_users: true,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that restores the old number.
pub const fn inverse(address: Address, from: u16, to: u16) -> Step {
    Step::SetVfCount { address, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, to: u16) -> String {
    format!("set the number of virtual functions of {address} to {to}")
}
