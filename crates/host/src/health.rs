//! The health of a function: whether it answers, and whether its link is as fast as it was.

use model::{Address, Checked, HostError, LinkBaseline};
use rustix::io::Errno;

use crate::detail::{Config, WHOLE, link_baseline};
use crate::function_files::DEVICES;
use crate::root::Root;
use crate::{function_files, problem};

/// Checks a function. For workers only: reading configuration space wakes a sleeping function, and waits while one is
/// being reset. The ids in sysfs cannot be used: the kernel caches them (`pci_setup_device` in drivers/pci/probe.c).
pub fn check(
    root: &Root,
    address: Address,
    link: Option<LinkBaseline>,
) -> Result<Checked, HostError> {
    let path = format!("{DEVICES}/{address}");
    let dir = function_files::existing(root, address)?;
    let bytes = dir.bytes("config", WHOLE).map_err(|errno| match errno {
        Errno::NODEV => HostError::Gone { address },
        errno => problem::file(root, "read", &format!("{path}/config"), errno),
    })?;
    let config = Config::new(&bytes);
    if config.is_gone() {
        return Ok(Checked::Silent);
    }
    let Some(was) = link else { return Ok(Checked::Well) };
    Ok(match link_baseline(&dir, config) {
        Some(now) if now.speed < was.speed || now.width < was.width => Checked::Slower { now },
        // A link that is down has no speed, and no function behind it answers: that case was handled above.
        _ => Checked::Well,
    })
}
