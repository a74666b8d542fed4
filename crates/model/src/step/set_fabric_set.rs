//! Activate a set of GPUs that NVSwitch isolates, or deactivate it.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_fabric_set",
    undone_by: Some(StepKind::SetFabricSet),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Fabric),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: true,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Undone,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: true,
};

/// The step that restores the old value.
pub const fn inverse(address: Address, set: u32, from: bool, to: bool) -> Step {
    Step::SetFabricSet { address, set, from: to, to: from }
}

/// The step in words.
pub fn describe(set: u32, to: bool) -> String {
    format!("{} fabric set {set}", if to { "activate" } else { "deactivate" })
}
