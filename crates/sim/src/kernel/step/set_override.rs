//! Writing `driver_override`.

use model::{Address, Observed};

use super::of_function;
use crate::kernel::compare::compare;
use crate::kernel::{ENODEV, ENOMEM, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOMEM, ENODEV];

pub(super) fn observe(
    kernel: &Kernel,
    address: Address,
    from: &Option<String>,
    to: &Option<String>,
) -> Observed {
    of_function(kernel, address, |state| Some(compare(&state.driver_override, from, to)))
}

pub(super) fn make(
    kernel: &mut Kernel,
    address: Address,
    to: &Option<String>,
) -> Result<(), Errno> {
    kernel.change(address, |state| state.driver_override.clone_from(to))
}
