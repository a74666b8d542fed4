//! Change owner and mode of an IOMMU group's node.

use std::time::Duration;

use super::{Binding, LocksBesides, NodeAccess, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "grant_group",
    undone_by: Some(StepKind::GrantGroup),
    deadline: Duration::from_secs(10),
    undo_order: Some(UndoOrder::Access),
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

/// The step that restores owner and mode.
pub const fn inverse(address: Address, group: u32, from: NodeAccess, to: NodeAccess) -> Step {
    Step::GrantGroup { address, group, from: to, to: from }
}

/// The step in words.
pub fn describe(group: u32, to: NodeAccess) -> String {
    format!("let uid {} open IOMMU group {group}", to.uid)
}
