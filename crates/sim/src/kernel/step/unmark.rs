//! Removing a mark.

use model::{Address, Mark, Observed};

use super::of_function;
use crate::kernel::{ENODEV, ENOMEM, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOMEM, ENODEV];

pub(super) fn observe(kernel: &Kernel, address: Address, mark: &Mark) -> Observed {
    of_function(kernel, address, |state| {
        Some(match &state.mark {
            None => Observed::After,
            Some(there) if there.is_same_claim(mark) => Observed::Before,
            Some(there) => Observed::Other(there.describe()),
        })
    })
}

pub(super) fn make(kernel: &mut Kernel, address: Address) -> Result<(), Errno> {
    kernel.change(address, |state| state.mark = None)
}
