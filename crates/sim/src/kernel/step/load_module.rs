//! Loading a kernel module.

use model::Observed;

use crate::kernel::compare::told;
use crate::kernel::{ENOENT, ENOMEM, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = &[ENOENT, ENOMEM];

pub(super) fn observe(kernel: &Kernel, module: &str) -> Observed {
    told(kernel.modules.contains(module))
}

pub(super) fn make(kernel: &mut Kernel, module: &str) {
    kernel.modules.insert(module.into());
}
