//! Returning an unbound function to its native driver.

use model::{Address, Observed, PowerControl};

use super::bind;
use crate::kernel::{Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = bind::ERRORS;

pub(super) fn observe(kernel: &Kernel, address: Address, driver: &str) -> Observed {
    bind::observe(kernel, address, driver)
}

/// A rescan for a removed function. Returns whether it was found.
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
