//! Binding or unbinding the driver of a firmware framebuffer.

use model::Observed;

use crate::kernel::compare::before_or_after;
use crate::kernel::{EIO, ENODEV, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[ENODEV, EIO];

pub(super) const MISSING: &str = "no such framebuffer";

pub(super) fn observe(kernel: &Kernel, device: &str, to: bool) -> Observed {
    kernel.framebuffers.get(device).map_or(Observed::Absent, |on| before_or_after(*on == to))
}

pub(super) fn make(kernel: &mut Kernel, device: &str, to: bool) -> Result<(), Errno> {
    kernel.set_framebuffer(device, to)
}
