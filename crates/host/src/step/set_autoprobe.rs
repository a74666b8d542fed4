//! `sriov_drivers_autoprobe`: whether the kernel binds drivers to new virtual functions.

use model::{Address, HostError, Observed};

use crate::function_files::{DEVICES, directory, write};
use crate::root::Root;
use crate::sriov::{AUTOPROBE, Sriov, Unread};

/// There are only two values, so any value other than `to` is the one before.
pub fn observe(root: &Root, address: Address, to: bool) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match Sriov::of(&dir).autoprobe() {
        Ok(now) if now == to => Observed::After,
        Ok(_) => Observed::Before,
        Err(Unread::Malformed { text, .. }) => Observed::Other(format!("{AUTOPROBE} {text:?}")),
        Err(Unread::Refused { .. }) => Observed::Other(format!(
            "no readable {AUTOPROBE}: the function does not support virtual functions"
        )),
    })
}

/// Sets it.
pub fn set(root: &Root, address: Address, to: bool) -> Result<(), HostError> {
    let value = if to { "1" } else { "0" };
    write(root, address, &format!("{DEVICES}/{address}/{AUTOPROBE}"), value)
}
