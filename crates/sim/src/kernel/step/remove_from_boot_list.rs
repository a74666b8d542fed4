//! Removing a function from the boot list.

use model::boot_list::BootListEntry;
use model::{Address, Observed};

use super::add_to_boot_list;
use crate::kernel::{EIO, ENOSPC, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOSPC, EIO];

pub(super) fn observe(kernel: &Kernel, ours: &BootListEntry) -> Observed {
    add_to_boot_list::compare(kernel, ours, false)
}

pub(super) fn make(kernel: &mut Kernel, address: Address) {
    kernel.boot_list.remove(&address);
}
