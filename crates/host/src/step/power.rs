//! `power/control`: whether a device may sleep.

use model::{Address, HostError, Observed, PowerControl};

use crate::found;
use crate::inventory::DEVICES;
use crate::root::{Dir, Root};

/// There are two values only, so what is not as after is as before, whoever wrote it: drivers set it when they bind
/// and unbind.
pub fn observe(dir: &Dir, to: PowerControl) -> Observed {
    match found::power(dir) {
        Some(now) if now == to => Observed::After,
        Some(_) => Observed::Before,
        None => Observed::Other("no power/control that could be read".into()),
    }
}

/// Sets it.
pub fn set(root: &Root, address: Address, to: PowerControl) -> Result<(), HostError> {
    super::write(root, address, &format!("{DEVICES}/{address}/power/control"), to.as_str())
}
