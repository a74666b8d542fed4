//! Putting a function on the list of the next boot.

use model::Observed;
use model::boot_list::BootListEntry;

use crate::kernel::compare::told;
use crate::kernel::{EIO, ENOSPC, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = &[ENOSPC, EIO];

pub(super) fn observe(kernel: &Kernel, ours: &BootListEntry) -> Observed {
    compare(kernel, ours, true)
}

/// A file is there or not, also of a device that is gone.
pub(super) fn compare(kernel: &Kernel, ours: &BootListEntry, listed: bool) -> Observed {
    match kernel.boot_list.get(&ours.address) {
        None => told(!listed),
        Some(there) if there == ours => told(listed),
        Some(there) => Observed::Other(format!("it reserved as {there}")),
    }
}

pub(super) fn make(kernel: &mut Kernel, ours: BootListEntry) {
    kernel.boot_list.insert(ours.address, ours);
}
