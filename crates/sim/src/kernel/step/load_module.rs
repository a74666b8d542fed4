//! Loading a kernel module.

use model::Observed;

use crate::kernel::compare::before_or_after;
use crate::kernel::{ENOENT, ENOMEM, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOENT, ENOMEM];

pub(super) fn observe(kernel: &Kernel, module: &str) -> Observed {
    before_or_after(kernel.modules.contains(module))
}

pub(super) fn make(kernel: &mut Kernel, module: &str) {
    kernel.modules.insert(module.into());
}
