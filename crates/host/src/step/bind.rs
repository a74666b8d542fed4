//! Binding an unbound function to a vfio driver.

use model::{Address, HostError, Observed};
use rustix::io::Errno;

use super::load_module;
use crate::function_files::{DEVICES, bound, bound_now, check_name, directory, write};
use crate::problem;
use crate::root::Root;

const DRIVERS: &str = "sys/bus/pci/drivers";
const PROBE: &str = "sys/bus/pci/drivers_probe";

/// Whether the function is bound to that driver.
///
/// During a bind the kernel creates the `driver` link before it calls the driver's `probe` (`really_probe` in
/// drivers/base/dd.c): the result is valid only while no other process holds the function's lock.
pub fn observe(root: &Root, address: Address, driver: &str) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match bound(root, &dir, address)? {
        None => Observed::Before,
        Some(now) if now == driver => Observed::After,
        Some(now) => Observed::Other(format!("driver {now}")),
    })
}

/// Lets the kernel probe the function, with the `driver_override` that the previous step set.
pub fn bind(root: &Root, address: Address, driver: &str) -> Result<(), HostError> {
    check_name(root, "driver", driver)?;
    let path = format!("{DRIVERS}/{driver}");
    if !root.exists(&path) {
        return Err(load_module::no_driver(root, driver, &path));
    }
    if probe(root, address)?.is_some() {
        return Ok(());
    }
    // drivers_probe hides the driver's error; a bind by name returns it.
    by_name(root, address, driver)
}

/// Lets the kernel search a driver, and returns the driver that the function is bound to afterwards.
///
/// The result of the write is ignored: the kernel returns success if there is no driver, and EINVAL for any error of a
/// driver's probe (seen on 7.3, with a group that a machine had open).
pub fn probe(root: &Root, address: Address) -> Result<Option<String>, HostError> {
    match write(root, address, PROBE, &address.to_string()) {
        Err(gone @ HostError::Gone { .. }) => Err(gone),
        _ => bound_now(root, address),
    }
}

/// Binds to a driver by its name. The kernel returns the driver's own error.
pub fn by_name(root: &Root, address: Address, driver: &str) -> Result<(), HostError> {
    check_name(root, "driver", driver)?;
    let path = format!("{DRIVERS}/{driver}/bind");
    let value = address.to_string();
    let Err(errno) = root.write(&path, &value) else { return Ok(()) };
    // Bound in the meantime; the caller checks to which driver.
    if bound_now(root, address)?.is_some() {
        return Ok(());
    }
    if errno == Errno::NOENT {
        return Err(load_module::no_driver(root, driver, &path));
    }
    let action = format!("write {value:?} to");
    Err(problem::because(root, action, &path, errno, why(root, address, driver, errno)))
}

/// Explains a driver's error.
fn why(root: &Root, address: Address, driver: &str, errno: Errno) -> String {
    let words = problem::words(errno);
    let other = root.text(&format!("{DEVICES}/{address}/driver_override")).ok();
    let other = other.filter(|text| !text.is_empty() && text != "(null)" && text != driver);
    let vfio = driver.ends_with("vfio-pci") || driver.ends_with("vfio_pci");
    match errno {
        Errno::NODEV if let Some(other) = other => {
            format!("{words}: its driver_override is {other}")
        }
        Errno::NODEV => format!("{words}: {driver} does not support this device"),
        // vfio_pci_core_register_device and iommu_device_use_default_domain.
        Errno::BUSY if vfio => {
            format!("{words}: it has virtual functions, or another driver uses its IOMMU group")
        }
        Errno::BUSY => format!(
            "{words}: a machine still has a member of its IOMMU group open; stop that machine first"
        ),
        // vfio_group_find_or_alloc: no IOMMU_CAP_CACHE_COHERENCY, or no group.
        Errno::INVAL if vfio => format!(
            "{words}: its IOMMU does not support cache-coherent DMA, or does not cover the device; see `dmesg`"
        ),
        _ => format!("{words}: {driver} refused to bind; see `dmesg | grep {address}`"),
    }
}
