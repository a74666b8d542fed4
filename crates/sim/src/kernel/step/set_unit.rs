//! Starting or stopping a systemd unit.

use model::Observed;

use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EIO];

pub(super) const MISSING: &str = "no such unit";

/// A unit exists or not, regardless of the function.
pub(super) fn observe(kernel: &Kernel, unit: &str, to: bool) -> Observed {
    kernel.units.get(unit).map_or(Observed::Absent, |on| before_or_after(*on == to))
}

pub(super) fn make(kernel: &mut Kernel, unit: &str, to: bool) -> Result<(), Errno> {
    kernel.set_unit(unit, to)
}
