//! Activating or deactivating a fabric set.

use model::Observed;

use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, ENODEV, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EIO];

pub(super) const MISSING: &str = "no such fabric set";

pub(super) fn observe(kernel: &Kernel, set: u32, to: bool) -> Observed {
    let found = kernel.fabric.iter().flat_map(|fabric| &fabric.sets).find(|one| one.id == set);
    found.map_or(Observed::Absent, |one| before_or_after(one.is_active == to))
}

/// Fabric Manager refuses a set that shares GPUs with an active one.
pub(super) fn make(kernel: &mut Kernel, set: u32, to: bool) -> Result<(), Errno> {
    let fabric = kernel.fabric.as_mut().ok_or(ENODEV)?;
    let found = fabric.sets.iter().position(|one| one.id == set).ok_or(ENODEV)?;
    let one = fabric.sets.get(found).ok_or(ENODEV)?;
    if to && fabric.in_the_way(one).is_some() {
        return Err(EIO);
    }
    if let Some(one) = fabric.sets.get_mut(found) {
        one.is_active = to;
    }
    Ok(())
}
