//! Removing a mediated device.

use model::{Address, Observed};
use uuid::Uuid;

use super::of_function;
use crate::kernel::{EAGAIN, EBUSY, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EAGAIN, EBUSY];

pub(super) fn observe(kernel: &Kernel, address: Address, uuid: Uuid, type_id: &str) -> Observed {
    of_function(kernel, address, |_| {
        Some(match kernel.mdevs.get(&uuid) {
            None => Observed::After,
            Some(mdev) if mdev.parent == address && mdev.type_id == type_id => Observed::Before,
            Some(mdev) => Observed::Other(format!("{} of {}", mdev.type_id, mdev.parent)),
        })
    })
}

pub(super) fn refusal(kernel: &Kernel, uuid: Uuid) -> Option<Errno> {
    kernel.removal_blocks(uuid).then_some(EBUSY)
}

pub(super) fn make(kernel: &mut Kernel, address: Address, uuid: Uuid) -> Result<(), Errno> {
    kernel.remove_mdev(address, uuid)
}
