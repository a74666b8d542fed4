//! Writing an attribute of a mediated device.

use model::{Address, Observed};
use uuid::Uuid;

use super::of_function;
use crate::kernel::compare::before_or_after;
use crate::kernel::{EINVAL, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EINVAL];

pub(super) const MISSING: &str = "no such mediated device";

pub(super) fn observe(
    kernel: &Kernel,
    address: Address,
    uuid: Uuid,
    name: &str,
    value: &str,
) -> Observed {
    of_function(kernel, address, |_| {
        let mdev = kernel.mdevs.get(&uuid).filter(|mdev| mdev.parent == address)?;
        Some(before_or_after(mdev.attributes.get(name).is_some_and(|now| now == value)))
    })
}

pub(super) fn make(
    kernel: &mut Kernel,
    address: Address,
    uuid: Uuid,
    name: &str,
    value: &str,
) -> Result<(), Errno> {
    kernel.write_mdev(address, uuid, name, value)
}
