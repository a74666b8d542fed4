//! Make a virtual function a vGPU, or free it.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_vgpu",
    undone_by: Some(StepKind::SetVgpu),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Partition),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: true,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Undone,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that restores the old type.
pub const fn inverse(address: Address, from: u32, to: u32) -> Step {
    Step::SetVgpu { address, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, to: u32) -> String {
    match to {
        0 => format!("free the vGPU of {address}"),
        to => format!("make {address} a vGPU of type {to}"),
    }
}
