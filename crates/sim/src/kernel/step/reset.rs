//! Resetting a function.

use model::{Address, Checked, LinkBaseline, Observed, is_vfio};

use super::of_function;
use crate::kernel::{EAGAIN, EBUSY, EIO, Errno, Kernel};

/// The errors of the kernel or other programs for this kind, the most common one first.
pub(super) const ERRORS: &[Errno] = &[EIO, EAGAIN];

/// Drivers that a reset does not harm.
const HARMLESS: [&str; 2] = ["pcieport", "pci-stub"];

/// It leaves no visible trace.
pub(super) fn observe(kernel: &Kernel, address: Address) -> Observed {
    of_function(kernel, address, |_| Some(Observed::Before))
}

/// Whether a reset would affect other functions than expected, a driver that would lose its device, or a machine.
pub(super) fn refusal(kernel: &Kernel, address: Address, domain: &[Address]) -> Option<Errno> {
    let hit = kernel.reset_domain(address);
    let more = hit.iter().any(|other| *other != address && !domain.contains(other));
    let bound = |function: &Address| {
        let driver = kernel.state(*function).ok().and_then(|state| state.driver.as_deref());
        driver.is_some_and(|driver| !is_vfio(driver, "vfio-pci") && !HARMLESS.contains(&driver))
    };
    let used = |function| bound(function) || kernel.is_open(*function);
    (more || hit.iter().chain(domain).any(used)).then_some(EBUSY)
}

pub(super) fn make(kernel: &mut Kernel, address: Address) -> Result<(), Errno> {
    kernel.reset(address)
}

/// Whether the function responds afterwards and its link is not degraded.
pub(super) fn see(
    kernel: &Kernel,
    address: Address,
    link: Option<LinkBaseline>,
) -> Result<(), String> {
    match kernel.checked(address, link) {
        Checked::Well => Ok(()),
        Checked::Silent => Err("that its configuration space reads as all ones".into()),
        Checked::Slower { now } => {
            Err(format!("a link of {} tenths of GT/s, {} lanes", now.speed, now.width))
        }
    }
}
