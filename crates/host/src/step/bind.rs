//! Binding an unbound function to a vfio driver.

use model::{Address, HostError, Observed};
use rustix::io::Errno;

use super::load_module;
use crate::function_files::{DEVICES, bound, bound_now, check_name, directory, write};
use crate::problem;
use crate::root::Root;

const DRIVERS: &str = "sys/bus/pci/drivers";
const PROBE: &str = "sys/bus/pci/drivers_probe";

/// Whether that driver has it.
///
/// During a bind the kernel makes the `driver` link before it calls the driver's `probe` (`really_probe` in
/// drivers/base/dd.c): what is seen here holds only while nobody has the lock of the function.
pub fn observe(root: &Root, address: Address, driver: &str) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match bound(root, &dir, address)? {
        None => Observed::Before,
        Some(now) if now == driver => Observed::After,
        Some(now) => Observed::Other(format!("it bound to {now}")),
    })
}

/// Has the kernel probe the function, with the override set by the step before.
pub fn bind(root: &Root, address: Address, driver: &str) -> Result<(), HostError> {
    check_name(root, "driver", driver)?;
    let path = format!("{DRIVERS}/{driver}");
    if !root.exists(&path) {
        return Err(load_module::no_driver(root, driver, &path));
    }
    if probe(root, address)?.is_some() {
        return Ok(());
    }
    // drivers_probe hides why a driver refused; asking for it by name tells.
    by_name(root, address, driver)
}

/// Lets the kernel look for a driver, and tells which one took the function.
///
/// What the kernel says is no help: success where there is no driver, and EINVAL for whatever a driver's probe failed
/// with (seen on 7.3, with a group that a machine had open).
pub fn probe(root: &Root, address: Address) -> Result<Option<String>, HostError> {
    match write(root, address, PROBE, &address.to_string()) {
        Err(gone @ HostError::Gone { .. }) => Err(gone),
        _ => bound_now(root, address),
    }
}

/// Binds to a driver by its name. The kernel's answer is the driver's own.
pub fn by_name(root: &Root, address: Address, driver: &str) -> Result<(), HostError> {
    check_name(root, "driver", driver)?;
    let path = format!("{DRIVERS}/{driver}/bind");
    let value = address.to_string();
    let Err(errno) = root.write(&path, &value) else { return Ok(()) };
    // Bound in the meantime: whether to the right driver is seen by who asked.
    if bound_now(root, address)?.is_some() {
        return Ok(());
    }
    if errno == Errno::NOENT {
        return Err(load_module::no_driver(root, driver, &path));
    }
    let action = format!("write {value:?} to");
    Err(problem::because(root, action, &path, errno, why(root, address, driver, errno)))
}

/// What a driver's refusal means.
fn why(root: &Root, address: Address, driver: &str, errno: Errno) -> String {
    let words = problem::words(errno);
    let reserved = root.text(&format!("{DEVICES}/{address}/driver_override")).ok();
    let reserved = reserved.filter(|text| !text.is_empty() && text != "(null)" && text != driver);
    let vfio = driver.ends_with("vfio-pci") || driver.ends_with("vfio_pci");
    match errno {
        Errno::NODEV if let Some(reserved) = reserved => {
            format!("{words}: its driver_override reserves it for {reserved}")
        }
        Errno::NODEV => format!("{words}: {driver} does not know this device"),
        // vfio_pci_core_register_device and iommu_device_use_default_domain.
        Errno::BUSY if vfio => {
            format!("{words}: it has virtual functions, or another driver uses its IOMMU group")
        }
        Errno::BUSY => format!(
            "{words}: a member of its IOMMU group is still open in a machine; end that machine first"
        ),
        // vfio_group_find_or_alloc: no IOMMU_CAP_CACHE_COHERENCY, or no group.
        Errno::INVAL if vfio => format!(
            "{words}: its IOMMU cannot keep DMA coherent, or does not cover it; see `dmesg`"
        ),
        _ => format!("{words}: {driver} refused it; see `dmesg | grep {address}`"),
    }
}
