//! Taking a function off the list of the next boot.

use model::boot_list::BootListEntry;
use model::{Address, Observed};

use super::add_to_boot_list;
use crate::kernel::{EIO, ENOSPC, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = &[ENOSPC, EIO];

pub(super) fn observe(kernel: &Kernel, ours: &BootListEntry) -> Observed {
    add_to_boot_list::compare(kernel, ours, false)
}

pub(super) fn make(kernel: &mut Kernel, address: Address) {
    kernel.boot_list.remove(&address);
}
