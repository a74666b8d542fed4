//! Remove a function from the boot list.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;
use crate::boot_list::BootListEntry;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "remove_from_boot_list",
    undone_by: Some(StepKind::AddToBootList),
    // A sync can take long on a busy disk.
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Files),
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: false,
    shows: true,
    outlasts_the_boot: true,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: true,
};

/// The step that adds it again.
pub fn inverse(ours: BootListEntry) -> Step {
    let BootListEntry { address, vendor, device, driver } = ours;
    Step::AddToBootList { address, vendor, device, driver }
}

/// The step in words.
pub fn describe(address: Address) -> String {
    format!("remove {address} from the boot list")
}
