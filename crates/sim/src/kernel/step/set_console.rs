//! Binding or unbinding a virtual console.

use model::Observed;

use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, ENODEV, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EIO, ENODEV];

pub(super) const MISSING: &str = "no such console";

pub(super) fn observe(kernel: &Kernel, console: u32, to: bool) -> Observed {
    kernel.consoles.get(&console).map_or(Observed::Absent, |on| before_or_after(*on == to))
}

pub(super) fn make(kernel: &mut Kernel, console: u32, to: bool) -> Result<(), Errno> {
    kernel.set_console(console, to)
}
