//! Writing mdevctl's definition of a mediated device.

use model::{MdevDefinition, Observed};

use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, ENOSPC, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOSPC, EIO];

pub(super) fn observe(kernel: &Kernel, ours: &MdevDefinition) -> Observed {
    compare(kernel, ours, true)
}

/// A file exists or not, even if its device is gone.
pub(super) fn compare(kernel: &Kernel, ours: &MdevDefinition, written: bool) -> Observed {
    match kernel.definitions.get(&ours.uuid) {
        None => before_or_after(!written),
        Some(there) if there == ours => before_or_after(written),
        Some(_) => Observed::Other("another definition".into()),
    }
}

pub(super) fn make(kernel: &mut Kernel, ours: MdevDefinition) {
    kernel.definitions.insert(ours.uuid, ours);
}
