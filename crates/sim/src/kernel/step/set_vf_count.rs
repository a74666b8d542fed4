//! Changing the number of virtual functions.

use model::{Address, Observed};

use crate::kernel::{EBUSY, EIO, ENOENT, ENOMEM, ENOSPC, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EBUSY, ENOMEM, EIO, ENOSPC];

/// The message if fewer appeared than requested.
pub(super) const FEWER: &str = "fewer virtual functions than requested";

pub(super) fn observe(
    kernel: &Kernel,
    address: Address,
    from: u16,
    to: u16,
) -> Result<Observed, Errno> {
    if kernel.state(address).is_err() {
        return Ok(Observed::Absent);
    }
    // None: between the two writes of a change.
    Ok(match kernel.vf_count(address).ok_or(ENOENT)? {
        now if now == to => Observed::After,
        now if now == from || now == 0 => Observed::Before,
        now => Observed::Other(format!("{now} virtual functions")),
    })
}

/// Whether a virtual function, or a partition of it or its parent, is in use.
pub(super) fn refusal(kernel: &Kernel, parent: Address) -> Option<Errno> {
    let functions: Vec<Address> = kernel.virtual_functions(parent).collect();
    let vgpu = |f: &Address| kernel.state(*f).is_ok_and(|s| s.vgpu.is_some_and(|id| id != 0));
    let used = functions.iter().any(|f| kernel.is_open(*f) || vgpu(f))
        || !kernel.holders_of(&functions).is_empty()
        || functions.iter().chain([&parent]).any(|f| kernel.children(*f).next().is_some());
    used.then_some(EBUSY)
}

pub(super) fn make(kernel: &mut Kernel, address: Address, from: u16, to: u16) -> Result<(), Errno> {
    kernel.set_vf_count(address, from, to)
}
