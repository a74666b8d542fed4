//! Resetting a function by the kernel's `reset` file, or with the others on its bus by VFIO, and checking it afterwards.

mod hot;

use std::time::{Duration, Instant};

use model::{Address, Checked, HostError, LinkBaseline, Lock, Observed, is_vfio};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::bus_path::BusPath;
use crate::device_lock::Locks;
use crate::function_files::{DEVICES, bound, directory, write};
use crate::root::Root;
use crate::{health, holders, problem};

/// How long to wait for the locks of the other functions in the reset domain.
const OTHERS: Duration = Duration::from_secs(20);

/// How long a link may take to retrain after a reset (PCI Express Base Specification, 6.6.1).
const TRAINING: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);

/// Drivers that use no DMA and have no state to lose.
const HARMLESS: [&str; 2] = ["pcieport", "pci-stub"];

/// The host does not show whether a reset was done: a function that exists is before it.
pub fn observe(root: &Root, address: Address) -> Result<Observed, HostError> {
    Ok(if directory(root, address)?.is_some() { Observed::Before } else { Observed::Absent })
}

/// Resets a function, unless the reset would affect a function in use.
pub fn reset(
    root: &Root,
    locks: &Locks,
    address: Address,
    domain: &[Address],
    link: Option<LinkBaseline>,
) -> Result<(), HostError> {
    let step = format!("reset {address}");
    let _others = lock_others(locks, address, domain, &step)?;
    let path = format!("{DEVICES}/{address}/reset");
    let hit = refuse_while_used(root, address, domain, &path)?;
    // The trees of tests have a `reset` file only.
    if hit.len() > 1 && root.is_host() {
        hot::reset(root, address, &hit)?;
    } else {
        write(root, address, &path, "1").map_err(explain)?;
    }
    check(root, address, link, &step)
}

/// Locks the rest of the domain, in the order of addresses, so that two resets do not wait for each other for long.
fn lock_others(
    locks: &Locks,
    address: Address,
    domain: &[Address],
    step: &str,
) -> Result<Vec<OwnedFd>, HostError> {
    let mut others: Vec<Address> = domain.iter().copied().filter(|one| *one != address).collect();
    others.sort_unstable();
    others.dedup();
    others.into_iter().map(|one| locks.acquire(&Lock::Function(one), OTHERS, step)).collect()
}

/// Refuses while a function that the reset affects is in use, or if the reset affects functions outside `domain`. Returns
/// the functions that it affects.
fn refuse_while_used(
    root: &Root,
    address: Address,
    domain: &[Address],
    path: &str,
) -> Result<Vec<Address>, HostError> {
    let refused =
        |reason: String| problem::because(root, "write \"1\" to", path, Errno::BUSY, reason);
    let hit = hits(root, address)?;
    if let Some(other) = hit.iter().find(|one| **one != address && !domain.contains(one)) {
        return Err(refused(format!("a bus reset would also reset {other}")));
    }
    let mut all = hit.clone();
    all.extend(domain);
    all.push(address);
    all.sort_unstable();
    all.dedup();
    for one in &all {
        let Some(dir) = directory(root, *one)? else { continue };
        let Some(driver) = bound(root, &dir, *one)? else { continue };
        if !is_vfio(&driver, "vfio-pci") && !HARMLESS.contains(&driver.as_str()) {
            return Err(refused(format!(
                "{one} is bound to {driver}, which would lose its device; unbind it first"
            )));
        }
    }
    match holders::of_vfio(root, &all)?.first() {
        Some(user) => Err(refused(format!("{} has {} open; stop it first", user.user, user.by))),
        None => Ok(hit),
    }
}

/// The functions that the kernel's reset method affects: a bus reset affects all below the bridge. The kernel itself
/// refuses a bus reset from sysfs if there are others (`pci_parent_bus_reset` in drivers/pci/pci.c).
fn hits(root: &Root, address: Address) -> Result<Vec<Address>, HostError> {
    let methods = root.attribute(&format!("{DEVICES}/{address}/reset_method")).unwrap_or_default();
    if !matches!(methods.split_ascii_whitespace().next(), Some("bus" | "cxl_bus")) {
        return Ok(vec![address]);
    }
    let bus_path =
        |name: &str| BusPath::of_link(&root.link(&format!("{DEVICES}/{name}")).unwrap_or_default());
    let Some(bridge) = bus_path(&address.to_string()).bridges.last().copied() else {
        return Ok(vec![address]);
    };
    let names = root.names(DEVICES).map_err(|errno| problem::file(root, "list", DEVICES, errno))?;
    let below = names.iter().filter(|name| bus_path(name).bridges.contains(&bridge));
    Ok(below.filter_map(|name| name.parse().ok()).collect())
}

/// Explains the kernel's error (`reset_store` in drivers/pci/pci-sysfs.c).
fn explain(error: HostError) -> HostError {
    let HostError::File { action, path, reason, errno } = error else { return error };
    let more = match errno.map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => ": the kernel has no method to reset this function alone",
        Some(Errno::NOTTY) => ": all reset methods failed; see `dmesg`",
        _ => "",
    };
    HostError::File { action, path, reason: format!("{reason}{more}"), errno }
}

/// Checks that the function answers, and that its link is as fast as before.
fn check(
    root: &Root,
    address: Address,
    link: Option<LinkBaseline>,
    step: &str,
) -> Result<(), HostError> {
    let until = Instant::now() + TRAINING;
    loop {
        let found = match health::check(root, address, link)? {
            Checked::Well => return Ok(()),
            Checked::Silent => {
                "that its configuration space reads as all ones: it does not respond".into()
            }
            Checked::Slower { now } => format!("{} instead of {}", words(Some(now)), words(link)),
        };
        if Instant::now() >= until {
            return Err(HostError::Check { step: step.into(), found });
        }
        std::thread::sleep(POLL);
    }
}

fn words(link: Option<LinkBaseline>) -> String {
    match link {
        Some(LinkBaseline { speed, width }) => {
            format!("a link of {}.{} GT/s x{width}", speed / 10, speed % 10)
        }
        None => "no link".into(),
    }
}
