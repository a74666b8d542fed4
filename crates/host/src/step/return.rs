//! Returning a function to the driver that it was found with.

use std::time::{Duration, Instant};

use model::{Address, HostError, Lock, Observed};
use rustix::io::Errno;

use super::{bind, load_module, set_override};
use crate::bus_path::BusPath;
use crate::device_lock::Locks;
use crate::function_files::{DEVICES, bound_now, check_name, driver_override, existing, write};
use crate::problem;
use crate::root::Root;

/// How long to wait for another removal or rescan.
const HOST_LOCK: Duration = Duration::from_secs(30);
/// How long a function may take to reappear after a rescan.
const REAPPEARING: Duration = Duration::from_secs(20);
/// How long its driver may take to start probing.
const PROBING: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

/// Whether the function is bound to that driver.
pub fn observe(root: &Root, address: Address, driver: &str) -> Result<Observed, HostError> {
    bind::observe(root, address, driver)
}

/// Binds an unbound function to its driver: by a probe; else by the driver's name; else by removing the function and
/// rescanning its bus.
pub fn rebind(root: &Root, locks: &Locks, address: Address, driver: &str) -> Result<(), HostError> {
    check_name(root, "driver", driver)?;
    if bind::probe(root, address)?.is_some() {
        return Ok(());
    }
    if !root.exists(&format!("sys/bus/pci/drivers/{driver}")) {
        load_module::load_for(root, address);
        if bound_now(root, address)?.is_some() {
            return Ok(());
        }
    }
    let Err(refusal) = bind::by_name(root, address, driver) else { return Ok(()) };
    let dir = existing(root, address)?;
    if dir.exists("physfn") && driver_override(&dir) == Ok(None) {
        return by_override(root, address, driver, refusal);
    }
    // A rescan does not find a virtual function: its physical function would have to create it again.
    if !rescan_may_help(&refusal) || dir.exists("physfn") {
        return Err(refusal);
    }
    tracing::warn!(%address, %refusal, "cannot bind the function; removing it and rescanning its bus");
    remove_and_rescan(root, locks, address)?;
    match bind::probe(root, address)? {
        Some(_) => Ok(()),
        None => Err(refusal),
    }
}

/// Binds with a temporary `driver_override`. While `sriov_drivers_autoprobe` of a physical function is 0, its virtual
/// functions bind only with one, even by a driver's name (`pci_device_can_probe` in drivers/pci/pci-driver.c).
fn by_override(
    root: &Root,
    address: Address,
    driver: &str,
    refusal: HostError,
) -> Result<(), HostError> {
    set_override::set(root, address, Some(driver))?;
    let bound = bind::probe(root, address);
    set_override::set(root, address, None)?;
    match bound? {
        Some(_) => Ok(()),
        None => Err(refusal),
    }
}

/// Whether removing the function and rescanning may help. It does not for a busy group, a missing driver, or a
/// `driver_override` for another driver.
fn rescan_may_help(refusal: &HostError) -> bool {
    let HostError::File { errno: Some(errno), .. } = refusal else { return false };
    ![Errno::BUSY, Errno::NOENT, Errno::NODEV, Errno::ACCESS, Errno::PERM, Errno::ROFS]
        .map(Errno::raw_os_error)
        .contains(errno)
}

/// Rescans the bus of a function that is missing: a worker may have died between the removal and the rescan.
pub fn rescan(root: &Root, locks: &Locks, address: Address) -> Result<(), HostError> {
    let bus = bus_rescan(address);
    if !root.exists(&bus) {
        return Err(HostError::Gone { address });
    }
    let step = format!("rescan the bus of {address}");
    let _host = locks.acquire(&Lock::Host, HOST_LOCK, &step)?;
    write(root, address, &bus, "1")?;
    let path = format!("{DEVICES}/{address}");
    if wait(PROBING, || root.exists(&path)) { Ok(()) } else { Err(HostError::Gone { address }) }
}

/// Removes a function and rescans its bus. The kernel takes one lock for all removals and rescans
/// (`pci_rescan_remove_lock`), and so do we.
fn remove_and_rescan(root: &Root, locks: &Locks, address: Address) -> Result<(), HostError> {
    let path = format!("{DEVICES}/{address}");
    let step = format!("remove and rescan {address}");
    let _host = locks.acquire(&Lock::Host, HOST_LOCK, &step)?;
    let link = root.link(&path).map_err(|errno| problem::file(root, "read", &path, errno))?;
    let dir = existing(root, address)?;
    let overridden = driver_override(&dir).ok().flatten();
    drop(dir);
    write(root, address, &format!("{path}/remove"), "1")?;
    write(root, address, &rescan_file(root, address, &link), "1")?;
    if !wait(REAPPEARING, || root.exists(&path)) {
        return Err(HostError::Gone { address });
    }
    wait(PROBING, || bound_now(root, address).is_ok_and(|driver| driver.is_some()));
    // The kernel creates the link before the driver's probe; reading this file waits for the device's lock, and so for
    // the end of the probe.
    let _ = root.text(&format!("{path}/driver_override"));
    // The removal cleared the override.
    overridden.map_or(Ok(()), |driver| set_override::set(root, address, Some(&driver)))
}

fn wait(patience: Duration, done: impl Fn() -> bool) -> bool {
    let until = Instant::now() + patience;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// The `rescan` file of the nearest bridge above a function, else of its bus, else of the whole host.
fn rescan_file(root: &Root, address: Address, link: &str) -> String {
    let near = match BusPath::of_link(link).bridges.last().copied() {
        Some(bridge) => format!("{DEVICES}/{bridge}/rescan"),
        None => bus_rescan(address),
    };
    if root.exists(&near) { near } else { "sys/bus/pci/rescan".into() }
}

/// The `rescan` file of a bus, which remains when its functions are removed.
fn bus_rescan(address: Address) -> String {
    format!("sys/class/pci_bus/{:04x}:{:02x}/rescan", address.domain(), address.bus())
}
