//! Writing `power/control`.

use model::{Address, Observed, PowerControl};

use super::of_function;
use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EIO];

/// Drivers also set it when they bind: any other value counts as the old one.
pub(super) fn observe(kernel: &Kernel, address: Address, to: PowerControl) -> Observed {
    of_function(kernel, address, |state| Some(before_or_after(state.power == to)))
}

pub(super) fn make(kernel: &mut Kernel, address: Address, to: PowerControl) -> Result<(), Errno> {
    kernel.change(address, |state| state.power = to)
}
