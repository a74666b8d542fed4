//! Unbinding a function from its driver.

use model::{Address, Observed};

use super::of_function;
use crate::kernel::compare::compare;
use crate::kernel::{EBUSY, ENODEV, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENODEV];

pub(super) fn observe(kernel: &Kernel, address: Address, driver: &str) -> Observed {
    of_function(kernel, address, |state| {
        Some(compare(&state.driver, &Some(driver.to_owned()), &None))
    })
}

/// A worker first checks for users, and for partitions that would disappear with the driver.
pub(super) fn refusal(kernel: &Kernel, address: Address) -> Option<Errno> {
    let vgpu = kernel.state(address).is_ok_and(|s| s.vgpu.is_some_and(|id| id != 0));
    let parent = vgpu || kernel.children(address).next().is_some();
    let used =
        kernel.is_open(address) || kernel.is_held_by_nvidia(address) || kernel.is_drawn_on(address);
    (used || parent).then_some(EBUSY)
}

pub(super) fn make(kernel: &mut Kernel, address: Address, driver: &str) -> Result<(), Errno> {
    kernel.unbind(address, driver)
}
