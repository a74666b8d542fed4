//! `sriov_drivers_autoprobe`: whether new virtual functions are given to drivers.

use model::{Address, HostError, Observed};

use crate::function_files::{directory, write};
use crate::inventory::DEVICES;
use crate::root::Root;

const NAME: &str = "sriov_drivers_autoprobe";

/// There are two values only, so what is not as after is as before. Reading it takes no lock
/// (`sriov_drivers_autoprobe_show` in drivers/pci/iov.c).
pub fn observe(root: &Root, address: Address, to: bool) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match dir.attribute(NAME).as_deref() {
        Ok("0") if !to => Observed::After,
        Ok("1") if to => Observed::After,
        Ok("0" | "1") => Observed::Before,
        Ok(other) => Observed::Other(format!("{NAME} as {other:?}")),
        Err(_) => Observed::Other(format!(
            "no {NAME} that could be read: the function makes no virtual functions"
        )),
    })
}

/// Sets it.
pub fn set(root: &Root, address: Address, to: bool) -> Result<(), HostError> {
    let value = if to { "1" } else { "0" };
    write(root, address, &format!("{DEVICES}/{address}/{NAME}"), value)
}
