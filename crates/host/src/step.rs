//! Observing and making the changes of a plan. `perform` runs in a worker process: every write may block in the
//! kernel.

mod access;
mod at_boot;
mod autoprobe;
mod bind;
mod definition;
mod evict;
mod give_back;
mod group;
mod hold;
mod mdev;
mod mdev_attribute;
mod module;
mod node;
mod persistence;
mod power;
mod program;
mod reserve;
mod reset;
mod unbind;
mod unit;
mod vf;
mod vf_count;
mod vgpu;

use std::time::{Duration, Instant};

use model::{Address, HostError, Observed, Step, VfioNode};
use rustix::io::Errno;

use crate::inventory::DEVICES;
use crate::root::{Dir, Root};
use crate::worker::Locks;
use crate::{found, problem};

pub use group::nodes;
pub use module::is_loaded;
pub use vf::read as vf_settings;

/// How long the result of a change may take to show. Most show at once; a driver that asks for asynchronous probing
/// (NVMe does) begins in its own time.
const SETTLING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether looking at a step could wait: for the lock of a device, for its driver, for the lock of all network
/// interfaces, for a program or for systemd.
pub const fn observing_can_block(step: &Step) -> bool {
    matches!(
        step,
        Step::SetOverride { .. }
            | Step::SetVfCount { .. }
            | Step::SetVf { .. }
            | Step::SetMdevAttribute { .. }
            | Step::SetVgpu { .. }
            | Step::SetPersistence { .. }
            | Step::SetUnit { .. }
    )
}

/// Whether the host shows of a step that it was made. A reset leaves no trace, and of an attribute nobody knows what it
/// says once it was written.
const fn shows(step: &Step) -> bool {
    !matches!(step, Step::Reset { .. } | Step::SetMdevAttribute { .. })
}

/// What the host shows of a step now.
///
/// During an unbind the kernel removes the `driver` link first and calls the driver's `remove` then
/// (`__device_release_driver` in drivers/base/dd.c), and during a bind it makes the link before `probe`: what is seen
/// here holds only while nobody has the lock of the function.
pub fn observe(root: &Root, step: &Step) -> Result<Observed, HostError> {
    match step {
        Step::LoadModule { module } => return Ok(module::observe(root, module)),
        // A process and a unit are there or not, whatever became of the function.
        Step::Evict { pid, started, .. } => return evict::observe(root, *pid, *started),
        Step::SetUnit { unit, to, .. } => return unit::observe(root, unit, *to),
        _ => {}
    }
    // So is a file, also of a device that is gone.
    if let Some(ours) = step.definition() {
        return match step {
            Step::DefineMdev { .. } => definition::observe_written(root, &ours),
            _ => definition::observe_gone(root, &ours),
        };
    }
    if let Some(ours) = step.reservation() {
        return at_boot::observe(root, &ours, matches!(step, Step::ReserveAtBoot { .. }));
    }
    let Some(address) = step.address() else { return Ok(Observed::Absent) };
    let Some(dir) = function(root, address)? else { return Ok(Observed::Absent) };
    match step {
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
        Step::GrantNode { node, from, to, .. } => node::observe(root, address, *node, from, to),
        Step::SetPersistence { to, .. } => persistence::observe(root, &dir, address, *to),
        // It does not show. Who wants to know whether it was made has to ask a person.
        Step::Reset { .. } => Ok(Observed::Before),
        _ => observe_part(root, step, &dir, address),
    }
}

/// What the host shows of a step that makes or unmakes a part of a device.
fn observe_part(
    root: &Root,
    step: &Step,
    dir: &Dir,
    address: Address,
) -> Result<Observed, HostError> {
    match step {
        Step::SetVfCount { from, to, .. } => vf_count::observe(root, dir, address, *from, *to),
        Step::SetAutoprobe { to, .. } => Ok(autoprobe::observe(dir, *to)),
        Step::SetVf { parent, index, from, to, .. } => vf::observe(root, *parent, *index, from, to),
        Step::CreateMdev { uuid, type_id, .. } => mdev::observe_made(root, address, *uuid, type_id),
        Step::RemoveMdev { uuid, type_id, .. } => {
            mdev::observe_removed(root, address, *uuid, type_id)
        }
        Step::SetMdevAttribute { uuid, name, value, .. } => {
            mdev_attribute::observe(root, address, *uuid, name, value)
        }
        Step::SetVgpu { from, to, .. } => vgpu::observe(root, dir, address, *from, *to),
        _ => Ok(Observed::Absent),
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
            _ => return Err(absent(root, step)),
        },
    }
    change(root, locks, step)?;
    if !shows(step) {
        return Ok(());
    }
    let until = Instant::now() + SETTLING;
    loop {
        let now = observe(root, step)?;
        match now {
            Observed::After => return Ok(()),
            Observed::Absent => return Err(absent(root, step)),
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
        Step::DefineMdev { .. } | Step::UndefineMdev { .. } => change_definition(root, step),
        Step::ReserveAtBoot { .. } | Step::UnreserveAtBoot { .. } => change_boot_list(root, step),
        Step::LoadModule { module } => module::load(root, module),
        Step::SetOverride { address, to, .. } => reserve::set(root, *address, to.as_deref()),
        Step::Unbind { address, driver } => unbind::unbind(root, *address, driver),
        Step::Bind { address, driver } => bind::bind(root, *address, driver),
        Step::Return { address, driver } => give_back::give_back(root, locks, *address, driver),
        Step::SetPower { address, to, .. } => power::set(root, *address, *to),
        Step::GrantGroup { group, to, .. } => group::grant(root, *group, to),
        Step::GrantNode { address, node, to, .. } => node::grant(root, *address, *node, to),
        Step::Evict { pid, started, user, .. } => evict::evict(root, *pid, *started, user),
        Step::SetPersistence { address, to, .. } => persistence::set(root, *address, *to),
        Step::SetUnit { unit, to, .. } => unit::set(root, unit, *to),
        Step::Reset { address, domain, link } => reset::reset(root, locks, *address, domain, *link),
        Step::SetVfCount { address, from, to } => vf_count::set(root, locks, *address, *from, *to),
        Step::SetAutoprobe { address, to, .. } => autoprobe::set(root, *address, *to),
        Step::SetVf { parent, index, to, .. } => vf::set(root, *parent, *index, to),
        Step::CreateMdev { address, uuid, type_id } => mdev::create(root, *address, *uuid, type_id),
        Step::RemoveMdev { address, uuid, .. } => mdev::remove(root, *address, *uuid),
        Step::SetMdevAttribute { uuid, name, value, .. } => {
            mdev_attribute::set(root, *uuid, name, value)
        }
        Step::SetVgpu { address, to, .. } => vgpu::set(root, *address, *to),
    }
}

fn change_definition(root: &Root, step: &Step) -> Result<(), HostError> {
    match (step, step.definition()) {
        (Step::DefineMdev { .. }, Some(ours)) => definition::write(root, &ours),
        (_, Some(ours)) => definition::remove(root, &ours),
        (_, None) => Ok(()),
    }
}

fn change_boot_list(root: &Root, step: &Step) -> Result<(), HostError> {
    match (step, step.reservation()) {
        (Step::ReserveAtBoot { .. }, Some(ours)) => at_boot::add(root, ours),
        (_, Some(ours)) => at_boot::remove(root, &ours),
        (_, None) => Ok(()),
    }
}

fn unexpected(step: &Step, found: String) -> HostError {
    HostError::Check { step: step.describe(), found }
}

/// What is missing where a step cannot be made: the function itself, or what the step is about.
fn absent(root: &Root, step: &Step) -> HostError {
    let gone = |address: &Address| !root.exists(&format!("{DEVICES}/{address}"));
    if let Some(address) = step.address().filter(gone) {
        return HostError::Gone { address };
    }
    let found = match step {
        Step::GrantGroup { group, .. } => {
            format!("no node for IOMMU group {group}: nothing of it is on vfio")
        }
        Step::GrantNode { node: VfioNode::Device, .. } => {
            "no node of its own in /dev/vfio/devices: it is not on a vfio driver, or the kernel has no              CONFIG_VFIO_DEVICE_CDEV"
                .into()
        }
        Step::GrantNode { node: VfioNode::MdevGroup(uuid), .. }
        | Step::SetMdevAttribute { uuid, .. } => {
            format!("no mediated device {uuid} there")
        }
        Step::SetVgpu { .. } => {
            "no nvidia/current_vgpu_type: NVIDIA's vGPU driver does not have it".into()
        }
        Step::SetPersistence { .. } => "it without NVIDIA's driver".into(),
        Step::SetUnit { unit, .. } => format!("no unit {unit}"),
        _ => "nothing of it".into(),
    };
    unexpected(step, found)
}

/// The directory of a function; `None` where it is gone.
pub fn function(root: &Root, address: Address) -> Result<Option<Dir>, HostError> {
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
