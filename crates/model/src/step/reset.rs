//! Reset a function.

use std::time::Duration;

use super::{Binding, LocksBesides, StepFacts, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "reset",
    undone_by: None,
    // The kernel waits 65 s for a function after an FLR, and again after the bus reset that it tries next
    // (`pci_dev_wait` in drivers/pci/pci.c). The deadline lets the kernel report the loss first.
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
