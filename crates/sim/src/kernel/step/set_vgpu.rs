//! Making a virtual function a vGPU, or freeing it.

use model::{Address, Observed};

use super::of_function;
use crate::kernel::compare::compare;
use crate::kernel::{EBUSY, EINVAL, EIO, ENOSPC, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EBUSY, EINVAL, EIO];

pub(super) const MISSING: &str = "no vGPU types";

pub(super) fn observe(kernel: &Kernel, address: Address, from: u32, to: u32) -> Observed {
    of_function(kernel, address, |state| Some(compare(&state.vgpu?, &from, &to)))
}

/// A worker checks which types can be created before it writes one.
pub(super) fn refusal(kernel: &Kernel, address: Address, to: u32) -> Option<Errno> {
    let creatable = || kernel.creatable(address).iter().any(|kind| kind.id == to);
    (to != 0 && !creatable()).then_some(ENOSPC)
}

pub(super) fn make(kernel: &mut Kernel, address: Address, to: u32) -> Result<(), Errno> {
    kernel.set_vgpu(address, to)
}
