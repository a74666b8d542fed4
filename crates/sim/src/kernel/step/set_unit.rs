//! Starting or stopping a unit of systemd's.

use model::Observed;

use crate::kernel::compare::told;
use crate::kernel::{EIO, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = &[EIO];

pub(super) const MISSING: &str = "no such unit";

/// A unit is there or not, whatever became of the function.
pub(super) fn observe(kernel: &Kernel, unit: &str, to: bool) -> Observed {
    kernel.units.get(unit).map_or(Observed::Absent, |on| told(*on == to))
}

pub(super) fn make(kernel: &mut Kernel, unit: &str, to: bool) -> Result<(), Errno> {
    kernel.set_unit(unit, to)
}
