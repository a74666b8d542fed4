//! Put a function on the list of those that the initial ramdisk binds to vfio.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;
use crate::boot_list::BootListEntry;

/// What is fixed of it.
pub const FACTS: StepFacts = StepFacts {
    name: "add_to_boot_list",
    undone_by: Some(StepKind::RemoveFromBootList),
    // A disk under load may take its time for a sync.
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

/// The step that takes it off the list.
pub fn inverse(ours: BootListEntry) -> Step {
    let BootListEntry { address, vendor, device, driver } = ours;
    Step::RemoveFromBootList { address, vendor, device, driver }
}

/// The step in words.
pub fn describe(address: Address, driver: &str) -> String {
    format!("reserve {address} for {driver} at the next boots")
}
