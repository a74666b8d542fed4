//! Binding an unbound function to a vfio driver.

use model::{Address, Observed};

use super::of_function;
use crate::kernel::compare::compare;
use crate::kernel::{EAGAIN, EBUSY, EINVAL, EIO, ENODEV, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
///
/// A driver's probe can fail with any error; these were observed.
pub(super) const ERRORS: &[Errno] = &[EBUSY, EINVAL, ENODEV, EIO, EAGAIN];

pub(super) fn observe(kernel: &Kernel, address: Address, driver: &str) -> Observed {
    of_function(kernel, address, |state| {
        Some(compare(&state.driver, &None, &Some(driver.to_owned())))
    })
}

pub(super) fn make(kernel: &mut Kernel, address: Address) -> Result<(), Errno> {
    kernel.probe(address)
}
