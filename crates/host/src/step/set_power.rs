//! `power/control`: whether the kernel may suspend a device at runtime.

use model::{Address, HostError, Observed, PowerControl};

use crate::function_files::{DEVICES, directory, power, write};
use crate::root::Root;

/// There are only two values, so any value other than `to` is the one before. Drivers also set it, when they bind and
/// unbind.
pub fn observe(root: &Root, address: Address, to: PowerControl) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match power(&dir) {
        Some(now) if now == to => Observed::After,
        Some(_) => Observed::Before,
        None => Observed::Other("no readable power/control".into()),
    })
}

/// Sets it.
pub fn set(root: &Root, address: Address, to: PowerControl) -> Result<(), HostError> {
    write(root, address, &format!("{DEVICES}/{address}/power/control"), to.as_str())
}
