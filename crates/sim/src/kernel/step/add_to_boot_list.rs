//! Adding a function to the boot list.

use model::Observed;
use model::boot_list::BootListEntry;

use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, ENOSPC, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOSPC, EIO];

pub(super) fn observe(kernel: &Kernel, ours: &BootListEntry) -> Observed {
    compare(kernel, ours, true)
}

/// A file exists or not, even if its device is gone.
pub(super) fn compare(kernel: &Kernel, ours: &BootListEntry, listed: bool) -> Observed {
    match kernel.boot_list.get(&ours.address) {
        None => before_or_after(!listed),
        Some(there) if there == ours => before_or_after(listed),
        Some(there) => Observed::Other(format!("the entry {there}")),
    }
}

pub(super) fn make(kernel: &mut Kernel, ours: BootListEntry) {
    kernel.boot_list.insert(ours.address, ours);
}
