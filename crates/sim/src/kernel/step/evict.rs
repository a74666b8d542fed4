//! Asking a process to exit.

use model::Observed;

use crate::kernel::compare::before_or_after;
use crate::kernel::{EPERM, ETIMEDOUT, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EPERM];

/// A process exists or not, regardless of the function.
pub(super) fn observe(kernel: &Kernel, pid: u32, started: u64) -> Observed {
    before_or_after(!kernel.is_alive(pid, started))
}

/// The process was asked; the worker waits for it until the timeout.
pub(super) fn refusal(kernel: &Kernel, pid: u32, started: u64) -> Option<Errno> {
    kernel.is_stubborn(pid, started).then_some(ETIMEDOUT)
}

pub(super) fn make(kernel: &mut Kernel, pid: u32, started: u64) {
    kernel.evict(pid, started);
}
