//! Setting the persistence mode of one NVIDIA GPU.

use model::{Address, Observed};

use super::of_function;
use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EIO];

pub(super) const MISSING: &str = "not bound to NVIDIA's driver";

pub(super) fn observe(kernel: &Kernel, address: Address, to: bool) -> Observed {
    of_function(kernel, address, |state| Some(before_or_after(state.persistence? == to)))
}

pub(super) fn make(kernel: &mut Kernel, address: Address, to: bool) -> Result<(), Errno> {
    kernel.set_persistence(address, to)
}
