//! What goes wrong, and when.

use model::Step;

/// A fault of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel refuses with EIO; nothing changes.
    Refuse,
    /// The worker stays inside the kernel and its lock held until `SimHost::release`, which lets the step happen.
    Hang,
    /// The function disappears from the bus.
    Lose,
}

/// Which step a fault hits. It hits once.
pub enum When {
    /// The n-th step performed from now on, counted from 0.
    Nth(u64),
    /// The first step for which this is true.
    Step(Box<dyn Fn(&Step) -> bool + Send>),
}

/// Faults that are still to come.
#[derive(Default)]
pub(crate) struct Faults(Vec<(When, Fault)>);

impl Faults {
    pub(crate) fn add(&mut self, when: When, fault: Fault) {
        self.0.push((when, fault));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts a step, and takes the fault that hits it.
    pub(crate) fn hit(&mut self, step: &Step) -> Option<Fault> {
        let hit = self.0.iter().position(|(when, _)| match when {
            When::Nth(left) => *left == 0,
            When::Step(matches) => matches(step),
        });
        for (when, _) in &mut self.0 {
            if let When::Nth(left) = when {
                *left = left.saturating_sub(1);
            }
        }
        hit.map(|index| self.0.remove(index).1)
    }
}
