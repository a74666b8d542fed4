//! `driver_override`: the only driver that may bind a function.

use model::{Address, HostError, Observed};

use crate::function_files::{DEVICES, check_name, directory, driver_override, write};
use crate::problem;
use crate::root::Root;

/// Compares the present value with those before and after. The read can wait for the device's lock.
pub fn observe(
    root: &Root,
    address: Address,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    let path = format!("{DEVICES}/{address}/driver_override");
    let now = driver_override(&dir).map_err(|errno| problem::file(root, "read", &path, errno))?;
    Ok(match now.as_deref() {
        now if now == to => Observed::After,
        now if now == from => Observed::Before,
        Some(other) => Observed::Other(format!("driver_override {other}")),
        None => Observed::Other("no driver_override".into()),
    })
}

/// Sets or clears it. An empty write has no effect; a single newline clears (`driver_set_override` in
/// drivers/base/driver.c).
pub fn set(root: &Root, address: Address, to: Option<&str>) -> Result<(), HostError> {
    if let Some(driver) = to {
        check_name(root, "driver", driver)?;
    }
    let path = format!("{DEVICES}/{address}/driver_override");
    write(root, address, &path, &format!("{}\n", to.unwrap_or_default()))
}
