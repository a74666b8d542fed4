//! How a function does: whether it answers, and whether its link is as good as it was.

use model::{Address, Checked, HostError, LinkBaseline};
use rustix::io::Errno;

use crate::detail::{Config, WHOLE, link_baseline};
use crate::function_files::DEVICES;
use crate::root::Root;
use crate::{function_files, problem};

/// Looks at it. Reading configuration space wakes a function that sleeps, and waits for one that is being reset: for
/// workers. The ids in sysfs are no help, for the kernel remembers them (`pci_setup_device` in drivers/pci/probe.c).
pub fn look(
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
        // A link that is down has no speed: nothing that hangs on it would answer, so it cannot be told here.
        _ => Checked::Well,
    })
}
