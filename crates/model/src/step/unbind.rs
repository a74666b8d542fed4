//! Unbind a function from its driver.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "unbind",
    undone_by: Some(StepKind::Return),
    // NVIDIA's and NVMe drivers flush and shut down.
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Unbind),
    binding: Binding::Taken,
    locks_besides: LocksBesides::None,
    observing_can_block: false,
    waits_for_users: true,
    shows: true,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step that returns it to that driver.
pub const fn inverse(address: Address, driver: String) -> Step {
    Step::Return { address, driver }
}

/// The step in words.
pub fn describe(address: Address, driver: &str) -> String {
    format!("unbind {address} from {driver}")
}
