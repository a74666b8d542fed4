//! Removing mdevctl's definition of a mediated device.

use model::{MdevDefinition, Observed};
use uuid::Uuid;

use super::define_mdev;
use crate::kernel::{EIO, ENOSPC, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOSPC, EIO];

pub(super) fn observe(kernel: &Kernel, ours: &MdevDefinition) -> Observed {
    define_mdev::compare(kernel, ours, false)
}

pub(super) fn make(kernel: &mut Kernel, uuid: Uuid) {
    kernel.definitions.remove(&uuid);
}
