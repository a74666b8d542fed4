//! Creating a mediated device.

use model::{Address, Observed};
use uuid::Uuid;

use super::of_function;
use crate::kernel::{EEXIST, EINVAL, EIO, ENOSPC, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENOSPC, EINVAL, EEXIST, EIO];

pub(super) fn observe(kernel: &Kernel, address: Address, uuid: Uuid, type_id: &str) -> Observed {
    of_function(kernel, address, |_| {
        Some(match kernel.mdevs.get(&uuid) {
            None => Observed::Before,
            Some(mdev) if mdev.parent == address && mdev.type_id == type_id => Observed::After,
            Some(mdev) => Observed::Other(format!("{} of {}", mdev.type_id, mdev.parent)),
        })
    })
}

pub(super) fn make(
    kernel: &mut Kernel,
    address: Address,
    uuid: Uuid,
    type_id: &str,
) -> Result<(), Errno> {
    kernel.create_mdev(address, uuid, type_id)
}
