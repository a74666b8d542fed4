//! Change owner and mode of a VFIO node whose number is known only once it exists.

use std::time::Duration;

use super::{
    Binding, LocksBesides, NodeAccess, Step, StepFacts, StepKind, UndoOrder, VfioNode, WhenAbsent,
};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "grant_node",
    undone_by: Some(StepKind::GrantNode),
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
pub const fn inverse(address: Address, node: VfioNode, from: NodeAccess, to: NodeAccess) -> Step {
    Step::GrantNode { address, node, from: to, to: from }
}

/// The step in words.
pub fn describe(address: Address, node: VfioNode, to: NodeAccess) -> String {
    match node {
        VfioNode::Device => format!("let uid {} open the VFIO device of {address}", to.uid),
        VfioNode::MdevGroup(uuid) => {
            format!("let uid {} open the mediated device {uuid}", to.uid)
        }
    }
}
