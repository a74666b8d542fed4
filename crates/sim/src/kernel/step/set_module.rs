//! Unloading or loading a module on the driver of a card.

use model::Observed;

use crate::kernel::compare::before_or_after;
use crate::kernel::{EAGAIN, ENOENT, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EAGAIN, ENOENT];

pub(super) fn observe(kernel: &Kernel, module: &str, to: bool) -> Observed {
    let is_there = kernel.card_modules.get(module) == Some(&true);
    before_or_after(is_there == to)
}

pub(super) fn make(kernel: &mut Kernel, module: &str, to: bool) -> Result<(), Errno> {
    kernel.set_card_module(module, to)
}
