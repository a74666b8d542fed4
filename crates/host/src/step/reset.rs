//! Resetting a function by the kernel's `reset`, and seeing that it is there afterwards.

use std::time::{Duration, Instant};

use model::{Address, Checked, HostError, LinkBaseline, Lock, Observed, is_vfio};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::bus_path::BusPath;
use crate::device_lock::Locks;
use crate::function_files::{DEVICES, bound, directory, write};
use crate::root::Root;
use crate::{health, holders, problem};

/// How long the other functions of the domain may be worked on by others.
const OTHERS: Duration = Duration::from_secs(20);

/// How long a link may take to come up as it was: it is trained anew (PCI Express Base Specification, 6.6.1).
const TRAINING: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Drivers that leave their device's DMA alone and have nothing to lose.
const HARMLESS: [&str; 2] = ["pcieport", "pci-stub"];

/// It does not show whether it was made.
pub fn observe(root: &Root, address: Address) -> Result<Observed, HostError> {
    Ok(if directory(root, address)?.is_some() { Observed::Before } else { Observed::Absent })
}

/// Resets a function, unless that would hit somebody.
pub fn reset(
    root: &Root,
    locks: &Locks,
    address: Address,
    domain: &[Address],
    link: Option<LinkBaseline>,
) -> Result<(), HostError> {
    let step = format!("reset {address}");
    let _others = hold_others(locks, address, domain, &step)?;
    let path = format!("{DEVICES}/{address}/reset");
    refuse_if_it_hits(root, address, domain, &path)?;
    write(root, address, &path, "1").map_err(explain)?;
    see(root, address, link, &step)
}

/// Locks the rest of the domain, in the order of addresses, so that two of these do not wait for each other for long.
fn hold_others(
    locks: &Locks,
    address: Address,
    domain: &[Address],
    step: &str,
) -> Result<Vec<OwnedFd>, HostError> {
    let mut others: Vec<Address> = domain.iter().copied().filter(|one| *one != address).collect();
    others.sort_unstable();
    others.dedup();
    others.into_iter().map(|one| locks.hold(&Lock::Function(one), OTHERS, step)).collect()
}

/// Refuses while anybody uses what the reset hits, or where it hits more than was said.
fn refuse_if_it_hits(
    root: &Root,
    address: Address,
    domain: &[Address],
    path: &str,
) -> Result<(), HostError> {
    let refused =
        |reason: String| problem::because(root, "write \"1\" to", path, Errno::BUSY, reason);
    let hit = hits(root, address)?;
    if let Some(other) = hit.iter().find(|one| **one != address && !domain.contains(one)) {
        return Err(refused(format!("its bus would be reset, and {other} with it")));
    }
    let mut all = hit;
    all.extend(domain);
    all.push(address);
    all.sort_unstable();
    all.dedup();
    for one in &all {
        let Some(dir) = directory(root, *one)? else { continue };
        let Some(driver) = bound(root, &dir, *one)? else { continue };
        if !is_vfio(&driver, "vfio-pci") && !HARMLESS.contains(&driver.as_str()) {
            return Err(refused(format!(
                "{one} is bound to {driver}, which would lose its device; take it from its driver first"
            )));
        }
    }
    match holders::of_vfio(root, &all)?.first() {
        Some(user) => Err(refused(format!("{} has {} open; end it first", user.user, user.by))),
        None => Ok(()),
    }
}

/// The functions that the kernel's way of resetting hits: with a bus reset, all below the bridge. The kernel itself
/// refuses one from sysfs where there are others (`pci_parent_bus_reset` in drivers/pci/pci.c).
fn hits(root: &Root, address: Address) -> Result<Vec<Address>, HostError> {
    let methods = root.attribute(&format!("{DEVICES}/{address}/reset_method")).unwrap_or_default();
    if !matches!(methods.split_ascii_whitespace().next(), Some("bus" | "cxl_bus")) {
        return Ok(vec![address]);
    }
    let place =
        |name: &str| BusPath::of_link(&root.link(&format!("{DEVICES}/{name}")).unwrap_or_default());
    let Some(bridge) = place(&address.to_string()).bridges.last().copied() else {
        return Ok(vec![address]);
    };
    let names = root.names(DEVICES).map_err(|errno| problem::file(root, "list", DEVICES, errno))?;
    let below = names.iter().filter(|name| place(name).bridges.contains(&bridge));
    Ok(below.filter_map(|name| name.parse().ok()).collect())
}

/// What the kernel's refusal means (`reset_store` in drivers/pci/pci-sysfs.c).
fn explain(error: HostError) -> HostError {
    let HostError::File { action, path, reason, errno } = error else { return error };
    let more = match errno.map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => ": the kernel knows no way to reset it alone",
        Some(Errno::NOTTY) => ": no way of resetting it worked; see `dmesg`",
        _ => "",
    };
    HostError::File { action, path, reason: format!("{reason}{more}"), errno }
}

/// Sees that it answers, and that its link is as good as it was.
fn see(
    root: &Root,
    address: Address,
    link: Option<LinkBaseline>,
    step: &str,
) -> Result<(), HostError> {
    let until = Instant::now() + TRAINING;
    loop {
        let found = match health::look(root, address, link)? {
            Checked::Well => return Ok(()),
            Checked::Silent => {
                "that its configuration space reads as ones: it does not answer any more".into()
            }
            Checked::Slower { now } => format!("{} instead of {}", words(Some(now)), words(link)),
        };
        if Instant::now() >= until {
            return Err(HostError::Check { step: step.into(), found });
        }
        std::thread::sleep(LOOK_AGAIN);
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
