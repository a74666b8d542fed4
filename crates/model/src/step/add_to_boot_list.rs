//! Add a function to the boot list.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;
use crate::boot_list::BootListEntry;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "add_to_boot_list",
    undone_by: Some(StepKind::RemoveFromBootList),
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

/// The step that removes it from the boot list.
pub fn inverse(ours: BootListEntry) -> Step {
    let BootListEntry { address, vendor, device, driver } = ours;
    Step::RemoveFromBootList { address, vendor, device, driver }
}

/// The step in words.
pub fn describe(address: Address, driver: &str) -> String {
    format!("add {address} to the boot list for {driver}")
}
