//! Write an attribute of a mediated device.

use std::time::Duration;

use uuid::Uuid;

use super::{Binding, LocksBesides, StepFacts, WhenAbsent};

/// The facts of this kind.
pub const FACTS: StepFacts = StepFacts {
    name: "set_mdev_attribute",
    undone_by: None,
    deadline: Duration::from_secs(10),
    undo_order: None,
    binding: Binding::Unchanged,
    locks_besides: LocksBesides::None,
    observing_can_block: true,
    waits_for_users: false,
    shows: false,
    outlasts_the_boot: false,
    when_absent: WhenAbsent::Fails,
    set_by_drivers: false,
    recorded_unchanged: false,
    stands_alone: false,
};

/// The step in words.
pub fn describe(uuid: Uuid, name: &str, value: &str) -> String {
    format!("write {value:?} to {name} of mediated device {uuid}")
}
