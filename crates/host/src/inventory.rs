//! Reads a [`model::Inventory`] at listing depth: nothing here wakes a device or waits for its lock.
//!
//! Left out for that reason: `config` (wakes), `sriov_numvfs` and `driver_override` (device lock), and `uevent`, which
//! takes the device lock on the stable kernels that have "drivers: core: synchronize really_probe() and dev_uevent()"
//! (6.10 and backports, taken back in 6.15). A driver that hangs in `remove` holds that lock for ever.
//!
//! What cannot be read or understood becomes a note of its function; no single attribute stops a listing.

mod bars;
mod below;
mod function;
mod groups;
mod modules;
mod names;
mod vfio;

use std::sync::{Mutex, PoisonError};

use model::{Address, HostError, Inventory};
use rustix::io::Errno;

use crate::problem;
use crate::root::Root;

pub(crate) use below::namespace;
pub(crate) use modules::module_present;

/// Where the functions' links are.
pub(crate) const DEVICES: &str = "sys/bus/pci/devices";

/// What is read from large files of the distribution's, kept as long as these do not change.
#[derive(Debug, Default)]
pub struct Catalogs {
    modules: Mutex<modules::Catalog>,
    names: Mutex<names::Catalog>,
}

/// Reads the inventory.
///
/// # Errors
/// Where not even the list of functions can be read.
pub fn read(root: &Root, catalogs: &Catalogs) -> Result<Inventory, HostError> {
    let listed =
        root.names(DEVICES).map_err(|errno| problem::file(root, "list", DEVICES, errno))?;
    let mut inventory = Inventory { groups: groups::read(root), ..Inventory::default() };
    for name in listed {
        let Ok(address) = name.parse::<Address>() else { continue };
        // Gone since the directory was listed: hot-unplugged.
        let Ok(link) = root.link(&format!("{DEVICES}/{name}")) else { continue };
        let dir = root.dir(&format!("{DEVICES}/{name}"));
        if dir.as_ref().is_err_and(|errno| *errno == Errno::NOENT && vanished(root, &name)) {
            continue;
        }
        inventory.functions.insert(address, function::read(address, &link, dir));
    }
    let mut modules = catalogs.modules.lock().unwrap_or_else(PoisonError::into_inner);
    modules.refresh(root);
    inventory.vfio = vfio::read(root, &modules);
    for function in inventory.functions.values_mut() {
        function.vfio_driver = modules.vfio_driver(root, function);
    }
    let mut names = catalogs.names.lock().unwrap_or_else(PoisonError::into_inner);
    names.name(root, inventory.functions.values_mut());
    Ok(inventory)
}

fn vanished(root: &Root, name: &str) -> bool {
    root.link(&format!("{DEVICES}/{name}")).is_err()
}
