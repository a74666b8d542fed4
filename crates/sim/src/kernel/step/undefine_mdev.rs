//! Removing mdevctl's definition of a mediated device.

use model::{MdevDefinition, Observed};
use uuid::Uuid;

use super::define_mdev;
use crate::kernel::{EIO, ENOSPC, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = &[ENOSPC, EIO];

pub(super) fn observe(kernel: &Kernel, ours: &MdevDefinition) -> Observed {
    define_mdev::compare(kernel, ours, false)
}

pub(super) fn make(kernel: &mut Kernel, uuid: Uuid) {
    kernel.definitions.remove(&uuid);
}
