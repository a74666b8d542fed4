//! Resetting a function.

use model::{Address, Checked, LinkBaseline, Observed, is_vfio};

use super::of_function;
use crate::kernel::{EAGAIN, EBUSY, EIO, Errno, Kernel};

/// The errors that the kernel, or who is asked besides, has for it. The first is the most common one.
pub(super) const ERRORS: &[Errno] = &[EIO, EAGAIN];

/// Drivers that have nothing to lose by a reset.
const HARMLESS: [&str; 2] = ["pcieport", "pci-stub"];

/// It leaves nothing that shows.
pub(super) fn observe(kernel: &Kernel, address: Address) -> Observed {
    of_function(kernel, address, |_| Some(Observed::Before))
}

/// Whether a reset hits more than was said, a driver that would lose its device, or a machine.
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

/// Whether the function answers afterwards, with a link as good as it was.
pub(super) fn see(
    kernel: &Kernel,
    address: Address,
    link: Option<LinkBaseline>,
) -> Result<(), String> {
    match kernel.checked(address, link) {
        Checked::Well => Ok(()),
        Checked::Silent => Err("that its configuration space answers all ones".into()),
        Checked::Slower { now } => {
            Err(format!("a link of {} tenths of GT/s, {} lanes", now.speed, now.width))
        }
    }
}
