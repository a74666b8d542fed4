//! Unbind the driver of the firmware's framebuffer, or bind it.

use std::time::Duration;

use super::{Binding, LocksBesides, Step, StepFacts, StepKind, UndoOrder, WhenAbsent};
use crate::Address;

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_framebuffer",
    undone_by: Some(StepKind::SetFramebuffer),
    deadline: Duration::from_secs(60),
    undo_order: Some(UndoOrder::Framebuffers),
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

/// The step that restores the old value.
pub fn inverse(address: Address, device: String, driver: String, (from, to): (bool, bool)) -> Step {
    Step::SetFramebuffer { address, device, driver, from: to, to: from }
}

/// The step in words.
pub fn describe(device: &str, driver: &str, to: bool) -> String {
    match to {
        true => format!("bind {device} to {driver}"),
        false => format!("unbind {device} from {driver}"),
    }
}
