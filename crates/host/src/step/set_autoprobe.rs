//! `sriov_drivers_autoprobe`: whether new virtual functions are given to drivers.

use model::{Address, HostError, Observed};

use crate::function_files::{DEVICES, directory, write};
use crate::root::Root;
use crate::sriov::{AUTOPROBE, Sriov, Unread};

/// There are two values only, so what is not as after is as before.
pub fn observe(root: &Root, address: Address, to: bool) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match Sriov::of(&dir).autoprobe() {
        Ok(now) if now == to => Observed::After,
        Ok(_) => Observed::Before,
        Err(Unread::Senseless { text, .. }) => Observed::Other(format!("{AUTOPROBE} as {text:?}")),
        Err(Unread::Refused { .. }) => Observed::Other(format!(
            "no {AUTOPROBE} that could be read: the function makes no virtual functions"
        )),
    })
}

/// Sets it.
pub fn set(root: &Root, address: Address, to: bool) -> Result<(), HostError> {
    let value = if to { "1" } else { "0" };
    write(root, address, &format!("{DEVICES}/{address}/{AUTOPROBE}"), value)
}
