//! Observing and making the changes of a plan. `perform` runs in a worker process: every write may block in the
//! kernel.

mod bind;
mod give_back;
mod group;
mod module;
mod power;
mod reserve;
mod unbind;

use std::time::{Duration, Instant};

use model::{Address, HostError, Observed, Step};
use rustix::io::Errno;

use crate::inventory::DEVICES;
use crate::root::{Dir, Root};
use crate::worker::Locks;
use crate::{found, problem};

pub use group::nodes;

/// How long the result of a change may take to show. Most show at once; a driver that asks for asynchronous probing
/// (NVMe does) begins in its own time.
const SETTLING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether looking at a step could wait for the lock of a device.
pub const fn observing_can_block(step: &Step) -> bool {
    matches!(step, Step::SetOverride { .. })
}

/// What the host shows of a step now.
///
/// During an unbind the kernel removes the `driver` link first and calls the driver's `remove` then
/// (`__device_release_driver` in drivers/base/dd.c), and during a bind it makes the link before `probe`: what is seen
/// here holds only while nobody has the lock of the function.
pub fn observe(root: &Root, step: &Step) -> Result<Observed, HostError> {
    let Some(address) = step.address() else {
        let Step::LoadModule { module } = step else { return Ok(Observed::Absent) };
        return Ok(module::observe(root, module));
    };
    let Some(dir) = function(root, address)? else { return Ok(Observed::Absent) };
    match step {
        Step::LoadModule { module } => Ok(module::observe(root, module)),
        Step::SetOverride { from, to, .. } => {
            reserve::observe(root, &dir, address, from.as_deref(), to.as_deref())
        }
        Step::Unbind { driver, .. } => Ok(match bound(root, &dir, address)? {
            None => Observed::After,
            Some(now) if now == *driver => Observed::Before,
            Some(now) => Observed::Other(format!("it bound to {now}")),
        }),
        Step::Bind { driver, .. } | Step::Return { driver, .. } => {
            Ok(match bound(root, &dir, address)? {
                None => Observed::Before,
                Some(now) if now == *driver => Observed::After,
                Some(now) => Observed::Other(format!("it bound to {now}")),
            })
        }
        Step::SetPower { to, .. } => Ok(power::observe(&dir, *to)),
        Step::GrantGroup { group, from, to, .. } => {
            group::observe(root, &dir, address, *group, from, to)
        }
    }
}

/// Makes a change that has not been made yet, and sees that it took.
pub fn perform(root: &Root, locks: &Locks, step: &Step) -> Result<(), HostError> {
    match observe(root, step)? {
        Observed::After => return Ok(()),
        Observed::Before => {}
        Observed::Other(found) => return Err(unexpected(step, found)),
        Observed::Absent => match step {
            Step::Return { address, .. } => {
                give_back::find_again(root, locks, *address)?;
                // It may have found its driver by itself.
                if observe(root, step)? == Observed::After {
                    return Ok(());
                }
            }
            _ => return Err(absent(step)),
        },
    }
    change(root, locks, step)?;
    let until = Instant::now() + SETTLING;
    loop {
        let now = observe(root, step)?;
        match now {
            Observed::After => return Ok(()),
            Observed::Absent => return Err(absent(step)),
            Observed::Before if Instant::now() < until => {
                std::thread::sleep(LOOK_AGAIN);
            }
            Observed::Other(found) => return Err(unexpected(step, found)),
            Observed::Before => return Err(unexpected(step, "it as it was before".into())),
        }
    }
}

fn change(root: &Root, locks: &Locks, step: &Step) -> Result<(), HostError> {
    match step {
        Step::LoadModule { module } => module::load(root, module),
        Step::SetOverride { address, to, .. } => reserve::set(root, *address, to.as_deref()),
        Step::Unbind { address, driver } => unbind::unbind(root, *address, driver),
        Step::Bind { address, driver } => bind::bind(root, *address, driver),
        Step::Return { address, driver } => give_back::give_back(root, locks, *address, driver),
        Step::SetPower { address, to, .. } => power::set(root, *address, *to),
        Step::GrantGroup { group, to, .. } => group::grant(root, *group, to),
    }
}

fn unexpected(step: &Step, found: String) -> HostError {
    HostError::Check { step: step.describe(), found }
}

fn absent(step: &Step) -> HostError {
    match (step, step.address()) {
        (Step::GrantGroup { group, .. }, _) => {
            unexpected(step, format!("no node for IOMMU group {group}: nothing of it is on vfio"))
        }
        (_, Some(address)) => HostError::Gone { address },
        (_, None) => unexpected(step, "nothing".into()),
    }
}

/// The directory of a function; `None` where it is gone.
fn function(root: &Root, address: Address) -> Result<Option<Dir>, HostError> {
    let path = format!("{DEVICES}/{address}");
    match root.dir(&path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(errno) => Err(problem::file(root, "look into", &path, errno)),
    }
}

/// The driver that has a function.
fn bound(root: &Root, dir: &Dir, address: Address) -> Result<Option<String>, HostError> {
    found::driver(dir)
        .map_err(|errno| problem::file(root, "read", &format!("{DEVICES}/{address}/driver"), errno))
}

/// The driver that has the function at an address now.
fn bound_now(root: &Root, address: Address) -> Result<Option<String>, HostError> {
    let dir = function(root, address)?.ok_or(HostError::Gone { address })?;
    bound(root, &dir, address)
}

/// Writes to a file that belongs to a function. A file that is gone with its function is told as that.
fn write(root: &Root, address: Address, path: &str, value: &str) -> Result<(), HostError> {
    root.write(path, value).map_err(|errno| {
        let gone = matches!(errno, Errno::NOENT | Errno::NODEV)
            && !root.exists(&format!("{DEVICES}/{address}"));
        if gone {
            return HostError::Gone { address };
        }
        problem::file(root, format!("write {:?} to", value.trim_end()), path, errno)
    })
}

/// Refuses a name that could lead a path astray. Drivers and modules are named like this.
fn check_name(root: &Root, what: &str, name: &str) -> Result<(), HostError> {
    let right = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if right {
        return Ok(());
    }
    let reason = format!("{name:?} cannot be the name of a {what}");
    Err(problem::because(root, "look for", "sys", Errno::INVAL, reason))
}
