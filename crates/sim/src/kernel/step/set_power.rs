//! Writing `power/control`.

use model::{Address, Observed, PowerControl};

use super::of_function;
use crate::kernel::compare::told;
use crate::kernel::{EIO, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = &[EIO];

/// Drivers set it too when they bind: what is not as it shall be is as it was.
pub(super) fn observe(kernel: &Kernel, address: Address, to: PowerControl) -> Observed {
    of_function(kernel, address, |state| Some(told(state.power == to)))
}

pub(super) fn make(kernel: &mut Kernel, address: Address, to: PowerControl) -> Result<(), Errno> {
    kernel.change(address, |state| state.power = to)
}
