//! Binding an unbound function to a vfio driver.

use model::{Address, Observed};

use super::of_function;
use crate::kernel::compare::compare;
use crate::kernel::{EAGAIN, EBUSY, EINVAL, EIO, ENODEV, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
///
/// A driver's probe fails with what it likes; these were seen.
pub(super) const ERRORS: &[Errno] = &[EBUSY, EINVAL, ENODEV, EIO, EAGAIN];

pub(super) fn observe(kernel: &Kernel, address: Address, driver: &str) -> Observed {
    of_function(kernel, address, |state| {
        Some(compare(&state.driver, &None, &Some(driver.to_owned())))
    })
}

pub(super) fn make(kernel: &mut Kernel, address: Address) -> Result<(), Errno> {
    kernel.probe(address)
}
