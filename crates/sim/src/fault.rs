//! What goes wrong, and when.

use model::Step;

use crate::kernel::{
    EAGAIN, EBUSY, EEXIST, EINVAL, EIO, ENODEV, ENOENT, ENOMEM, ENOSPC, EPERM, Errno,
};

/// A fault of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel refuses with EIO; nothing changes.
    Refuse,
    /// The kernel refuses with one of the errors that it has for this kind of step, picked by this number; nothing
    /// changes.
    Error(u64),
    /// The worker stays inside the kernel and its lock held until `SimHost::release`, which lets the step happen.
    Hang,
    /// The function disappears from the bus.
    Lose,
    /// The step happens, and an error is reported all the same.
    DoneAfterAll,
    /// The kernel reports success, and nothing happened. The check that follows tells.
    Ignored,
    /// So many virtual functions fewer than asked for appear. Other steps are refused.
    Fewer(u16),
    /// The function does not answer any more after its reset. Other steps are refused.
    NeverBack,
    /// The function's link is slower after its reset. Other steps are refused.
    SlowerLink,
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

/// The errors that the kernel, or who is asked besides, has for a kind of step. The first is the most common one.
const fn errors(step: &Step) -> &'static [Errno] {
    match step {
        Step::LoadModule { .. } => &[ENOENT, ENOMEM],
        Step::SetOverride { .. } => &[ENOMEM, ENODEV],
        Step::Unbind { .. } => &[ENODEV],
        // A driver's probe fails with what it likes; these were seen.
        Step::Bind { .. } | Step::Return { .. } => &[EBUSY, EINVAL, ENODEV, EIO, EAGAIN],
        Step::SetPower { .. } => &[EIO],
        Step::GrantGroup { .. } | Step::GrantNode { .. } => &[ENOENT],
        Step::Evict { .. } => &[EPERM],
        Step::SetPersistence { .. } | Step::SetUnit { .. } => &[EIO],
        Step::Reset { .. } => &[EIO, EAGAIN],
        Step::SetVfCount { .. } => &[EBUSY, ENOMEM, EIO, ENOSPC],
        Step::SetAutoprobe { .. } => &[EIO],
        Step::SetVf { .. } => &[EINVAL, EBUSY, EIO],
        Step::CreateMdev { .. } => &[ENOSPC, EINVAL, EEXIST, EIO],
        Step::RemoveMdev { .. } => &[EAGAIN, EBUSY],
        Step::SetMdevAttribute { .. } => &[EINVAL],
        Step::SetVgpu { .. } => &[EBUSY, EINVAL, EIO],
    }
}

/// One of the errors for a kind of step.
pub(crate) fn error(step: &Step, pick: u64) -> Errno {
    let errors = errors(step);
    let length = u64::try_from(errors.len()).unwrap_or(1);
    usize::try_from(pick % length).ok().and_then(|index| errors.get(index).copied()).unwrap_or(EIO)
}
