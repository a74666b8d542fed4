//! Giving a function back to the driver it was found with.

use std::time::{Duration, Instant};

use model::{Address, HostError, Lock, Observed};
use rustix::io::Errno;

use super::{bind, load_module, set_override};
use crate::bus_path::BusPath;
use crate::device_lock::Locks;
use crate::function_files::{DEVICES, bound_now, check_name, driver_override, existing, write};
use crate::problem;
use crate::root::Root;

/// How long another removal or rescan may take before this one.
const HOST_LOCK: Duration = Duration::from_secs(30);
/// How long a function may take to come back.
const REAPPEARING: Duration = Duration::from_secs(20);
/// How long its driver may take to begin with it.
const PROBING: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whether that driver has it: as with a vfio driver.
pub fn observe(root: &Root, address: Address, driver: &str) -> Result<Observed, HostError> {
    bind::observe(root, address, driver)
}

/// Gives an unbound function back: by a probe; else by the driver's name; else by removing and finding it again.
pub fn give_back(
    root: &Root,
    locks: &Locks,
    address: Address,
    driver: &str,
) -> Result<(), HostError> {
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
        return by_reserving(root, address, driver, refusal);
    }
    // A virtual function is not found by a rescan: its physical function would have to make it again.
    if !rescan_may_help(&refusal) || dir.exists("physfn") {
        return Err(refusal);
    }
    tracing::warn!(%address, %refusal, "removing a function and looking for it again");
    remove_and_rescan(root, locks, address)?;
    match bind::probe(root, address)? {
        Some(_) => Ok(()),
        None => Err(refusal),
    }
}

/// While a physical function gives out no drivers (`sriov_drivers_autoprobe` is 0), its virtual functions bind only with
/// an override, even by a driver's name (`pci_device_can_probe` in drivers/pci/pci-driver.c).
fn by_reserving(
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

/// A busy group, a missing driver, an override that is in the way: none gets better by losing the function.
fn rescan_may_help(refusal: &HostError) -> bool {
    let HostError::File { errno: Some(errno), .. } = refusal else { return false };
    ![Errno::BUSY, Errno::NOENT, Errno::NODEV, Errno::ACCESS, Errno::PERM, Errno::ROFS]
        .map(Errno::raw_os_error)
        .contains(errno)
}

/// Looks for a function that is not on its bus: a worker may have died between removing it and finding it again.
pub fn find_again(root: &Root, locks: &Locks, address: Address) -> Result<(), HostError> {
    let bus = bus_rescan(address);
    if !root.exists(&bus) {
        return Err(HostError::Gone { address });
    }
    let step = format!("look for {address} again");
    let _host = locks.hold(&Lock::Host, HOST_LOCK, &step)?;
    write(root, address, &bus, "1")?;
    let path = format!("{DEVICES}/{address}");
    if wait(PROBING, || root.exists(&path)) { Ok(()) } else { Err(HostError::Gone { address }) }
}

/// Removes a function and has its bus scanned. The kernel takes one lock for all removals and rescans
/// (`pci_rescan_remove_lock`), and so do we.
fn remove_and_rescan(root: &Root, locks: &Locks, address: Address) -> Result<(), HostError> {
    let path = format!("{DEVICES}/{address}");
    let step = format!("remove and rescan {address}");
    let _host = locks.hold(&Lock::Host, HOST_LOCK, &step)?;
    let link = root.link(&path).map_err(|errno| problem::file(root, "read", &path, errno))?;
    let dir = existing(root, address)?;
    let reserved = driver_override(&dir).ok().flatten();
    drop(dir);
    write(root, address, &format!("{path}/remove"), "1")?;
    write(root, address, &rescan_file(root, address, &link), "1")?;
    if !wait(REAPPEARING, || root.exists(&path)) {
        return Err(HostError::Gone { address });
    }
    wait(PROBING, || bound_now(root, address).is_ok_and(|driver| driver.is_some()));
    // The link is made before the driver's probe; reading this waits for the device's lock, so for its end.
    let _ = root.text(&format!("{path}/driver_override"));
    // The override went with the function.
    reserved.map_or(Ok(()), |driver| set_override::set(root, address, Some(&driver)))
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
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The file that scans the bus of a function and no more of the host than it must.
fn rescan_file(root: &Root, address: Address, link: &str) -> String {
    let near = match BusPath::of_link(link).bridges.last().copied() {
        Some(bridge) => format!("{DEVICES}/{bridge}/rescan"),
        None => bus_rescan(address),
    };
    if root.exists(&near) { near } else { "sys/bus/pci/rescan".into() }
}

/// The file that scans a bus, which stays when what was on it has been removed.
fn bus_rescan(address: Address) -> String {
    format!("sys/class/pci_bus/{:04x}:{:02x}/rescan", address.domain(), address.bus())
}
