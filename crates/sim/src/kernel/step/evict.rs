//! Asking a process to end.

use model::Observed;

use crate::kernel::compare::told;
use crate::kernel::{EPERM, ETIMEDOUT, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = &[EPERM];

/// A process is there or not, whatever became of the function.
pub(super) fn observe(kernel: &Kernel, pid: u32, started: u64) -> Observed {
    told(!kernel.is_alive(pid, started))
}

/// It was asked, and is waited for until the worker gives up.
pub(super) fn refusal(kernel: &Kernel, pid: u32, started: u64) -> Option<Errno> {
    kernel.is_stubborn(pid, started).then_some(ETIMEDOUT)
}

pub(super) fn make(kernel: &mut Kernel, pid: u32, started: u64) {
    kernel.evict(pid, started);
}
