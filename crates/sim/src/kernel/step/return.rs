//! Giving an unbound function back to its own driver.

use model::{Address, Observed, PowerControl};

use super::bind;
use crate::kernel::{Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = bind::ERRORS;

pub(super) fn observe(kernel: &Kernel, address: Address, driver: &str) -> Observed {
    bind::observe(kernel, address, driver)
}

/// A rescan finds a function that was removed. Whether it did.
pub(super) fn find_again(kernel: &mut Kernel, address: Address) -> bool {
    let removed = kernel.removed.remove(&address);
    if removed {
        kernel.appear(address, PowerControl::On);
    }
    removed
}

pub(super) fn make(kernel: &mut Kernel, address: Address, driver: &str) -> Result<(), Errno> {
    kernel.give_back(address, driver)
}
