//! Writing `sriov_drivers_autoprobe`.

use model::{Address, Observed};

use super::of_function;
use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EIO];

pub(super) fn observe(kernel: &Kernel, address: Address, to: bool) -> Observed {
    of_function(kernel, address, |state| {
        Some(match state.autoprobe {
            Some(now) => before_or_after(now == to),
            None => Observed::Other("no sriov_drivers_autoprobe".into()),
        })
    })
}

pub(super) fn make(kernel: &mut Kernel, address: Address, to: bool) -> Result<(), Errno> {
    kernel.change(address, |state| state.autoprobe = Some(to))
}
