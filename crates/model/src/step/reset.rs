//! Reset a function.

use std::time::Duration;

use super::{Binding, LocksBesides, StepFacts, WhenAbsent};
use crate::Address;

/// What is fixed of it.
pub const FACTS: StepFacts = StepFacts {
    name: "reset",
    undone_by: None,
    // The kernel itself waits 65 s for a function to come back from an FLR, and as long again from the bus reset that
    // it tries then (`pci_dev_wait` in drivers/pci/pci.c): it shall be the one that says that it is lost.
    deadline: Duration::from_secs(150),
    undo_order: None,
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::Domain,
    observing_can_block: false,
    waits_for_users: false,
    shows: false,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step in words.
pub fn describe(address: Address) -> String {
    format!("reset {address}")
}
