//! Observing and performing the steps of a plan. Each kind of step has a file of its name. `perform` runs in a worker
//! process: every write may block in the kernel.

mod add_to_boot_list;
mod bind;
mod create_mdev;
mod define_mdev;
mod evict;
mod grant_group;
mod grant_node;
mod load_module;
mod mark;
mod remove_from_boot_list;
mod remove_mdev;
mod reset;
mod r#return;
mod set_autoprobe;
mod set_console;
mod set_fabric_set;
mod set_framebuffer;
mod set_mdev_attribute;
mod set_module;
mod set_override;
mod set_persistence;
mod set_power;
mod set_unit;
mod set_vf;
mod set_vf_count;
mod set_vgpu;
mod unbind;
mod undefine_mdev;
mod unmark;

use std::time::{Duration, Instant};

use model::boot_list::BootListEntry;
use model::{Address, HostError, MdevDefinition, Observed, Step, WhenAbsent};

use crate::device_lock::Locks;
use crate::function_files::DEVICES;
use crate::root::Root;

pub use grant_group::nodes;
pub use load_module::is_loaded;
pub use mark::read as marks;
pub use set_vf::read as vf_settings;

/// How long the result of a change may take to show. Most show at once; a driver with asynchronous probing (NVMe)
/// starts later.
const SETTLING: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// The present state of the host for a step. Processes, units and files are read also if the function is gone.
pub fn observe(root: &Root, step: &Step) -> Result<Observed, HostError> {
    match step {
        Step::Mark { address, mark } => mark::observe(root, *address, mark),
        Step::Unmark { address, mark } => unmark::observe(root, *address, mark),
        Step::LoadModule { module } => Ok(load_module::observe(root, module)),
        Step::SetOverride { address, from, to } => {
            set_override::observe(root, *address, from.as_deref(), to.as_deref())
        }
        Step::Unbind { address, driver } => unbind::observe(root, *address, driver),
        Step::Bind { address, driver } => bind::observe(root, *address, driver),
        Step::Return { address, driver } => r#return::observe(root, *address, driver),
        Step::SetPower { address, to, .. } => set_power::observe(root, *address, *to),
        Step::GrantGroup { address, group, from, to } => {
            grant_group::observe(root, *address, *group, from, to)
        }
        Step::GrantNode { address, node, from, to } => {
            grant_node::observe(root, *address, *node, from, to)
        }
        Step::Evict { pid, started, .. } => evict::observe(root, *pid, *started),
        Step::SetPersistence { address, to, .. } => set_persistence::observe(root, *address, *to),
        Step::SetUnit { unit, to, .. } => set_unit::observe(root, unit, *to),
        Step::Reset { address, .. } => reset::observe(root, *address),
        Step::SetVfCount { address, from, to } => set_vf_count::observe(root, *address, *from, *to),
        Step::SetAutoprobe { address, to, .. } => set_autoprobe::observe(root, *address, *to),
        Step::SetVf { address, parent, index, from, to } => {
            set_vf::observe(root, *address, *parent, *index, from, to)
        }
        Step::CreateMdev { address, uuid, type_id } => {
            create_mdev::observe(root, *address, *uuid, type_id)
        }
        Step::RemoveMdev { address, uuid, type_id } => {
            remove_mdev::observe(root, *address, *uuid, type_id)
        }
        Step::SetMdevAttribute { address, uuid, name, value } => {
            set_mdev_attribute::observe(root, *address, *uuid, name, value)
        }
        Step::DefineMdev { address, uuid, type_id, attributes } => {
            define_mdev::observe(root, &MdevDefinition::new(*address, *uuid, type_id, attributes))
        }
        Step::UndefineMdev { address, uuid, type_id, attributes } => {
            undefine_mdev::observe(root, &MdevDefinition::new(*address, *uuid, type_id, attributes))
        }
        Step::AddToBootList { address, vendor, device, driver } => {
            add_to_boot_list::observe(root, &BootListEntry::new(*address, *vendor, *device, driver))
        }
        Step::RemoveFromBootList { address, vendor, device, driver } => {
            remove_from_boot_list::observe(
                root,
                &BootListEntry::new(*address, *vendor, *device, driver),
            )
        }
        Step::SetVgpu { address, from, to } => set_vgpu::observe(root, *address, *from, *to),
        Step::SetConsole { console, to, .. } => set_console::observe(root, *console, *to),
        Step::SetFramebuffer { device, driver, to, .. } => {
            set_framebuffer::observe(root, device, driver, *to)
        }
        Step::SetModule { module, to, .. } => set_module::observe(root, module, *to),
        Step::SetFabricSet { set, to, .. } => set_fabric_set::observe(root, *set, *to),
    }
}

/// Performs a step unless the host shows it done already, and checks that the change took effect.
pub fn perform(root: &Root, locks: &Locks, step: &Step) -> Result<(), HostError> {
    match observe(root, step)? {
        Observed::After => return Ok(()),
        Observed::Before => {}
        Observed::Other(found) => return Err(unexpected(step, found)),
        Observed::Absent => match (step.facts().when_absent, step.address()) {
            (WhenAbsent::FoundAgain, Some(address)) => {
                r#return::rescan(root, locks, address)?;
                // The kernel may have bound its driver.
                if observe(root, step)? == Observed::After {
                    return Ok(());
                }
            }
            (WhenAbsent::FoundAgain | WhenAbsent::Fails | WhenAbsent::Undone, _) => {
                return Err(absent(root, step));
            }
        },
    }
    change(root, locks, step)?;
    if !step.facts().shows {
        return Ok(());
    }
    let until = Instant::now() + SETTLING;
    loop {
        let now = observe(root, step)?;
        match now {
            Observed::After => return Ok(()),
            Observed::Absent => return Err(absent(root, step)),
            Observed::Before if Instant::now() < until => {
                std::thread::sleep(POLL);
            }
            Observed::Other(found) => return Err(unexpected(step, found)),
            Observed::Before => {
                return Err(unexpected(step, "that the change had no effect".into()));
            }
        }
    }
}

fn change(root: &Root, locks: &Locks, step: &Step) -> Result<(), HostError> {
    match step {
        Step::Mark { address, mark } => mark::set(root, *address, mark),
        Step::Unmark { address, .. } => unmark::remove(root, *address),
        Step::LoadModule { module } => load_module::load(root, module),
        Step::SetOverride { address, to, .. } => set_override::set(root, *address, to.as_deref()),
        Step::Unbind { address, driver } => unbind::unbind(root, *address, driver),
        Step::Bind { address, driver } => bind::bind(root, *address, driver),
        Step::Return { address, driver } => r#return::rebind(root, locks, *address, driver),
        Step::SetPower { address, to, .. } => set_power::set(root, *address, *to),
        Step::GrantGroup { group, to, .. } => grant_group::grant(root, *group, to),
        Step::GrantNode { address, node, to, .. } => grant_node::grant(root, *address, *node, to),
        Step::Evict { pid, started, user, .. } => evict::evict(root, *pid, *started, user),
        Step::SetPersistence { address, to, .. } => set_persistence::set(root, *address, *to),
        Step::SetUnit { unit, to, .. } => set_unit::set(root, unit, *to),
        Step::Reset { address, domain, link } => reset::reset(root, locks, *address, domain, *link),
        Step::SetVfCount { address, from, to } => {
            set_vf_count::set(root, locks, *address, *from, *to)
        }
        Step::SetAutoprobe { address, to, .. } => set_autoprobe::set(root, *address, *to),
        Step::SetVf { parent, index, to, .. } => set_vf::set(root, *parent, *index, to),
        Step::CreateMdev { address, uuid, type_id } => {
            create_mdev::create(root, *address, *uuid, type_id)
        }
        Step::RemoveMdev { address, uuid, .. } => remove_mdev::remove(root, *address, *uuid),
        Step::SetMdevAttribute { uuid, name, value, .. } => {
            set_mdev_attribute::set(root, *uuid, name, value)
        }
        Step::DefineMdev { address, uuid, type_id, attributes } => {
            define_mdev::write(root, &MdevDefinition::new(*address, *uuid, type_id, attributes))
        }
        Step::UndefineMdev { address, uuid, type_id, attributes } => {
            undefine_mdev::remove(root, &MdevDefinition::new(*address, *uuid, type_id, attributes))
        }
        Step::AddToBootList { address, vendor, device, driver } => {
            add_to_boot_list::add(root, BootListEntry::new(*address, *vendor, *device, driver))
        }
        Step::RemoveFromBootList { address, vendor, device, driver } => {
            remove_from_boot_list::remove(
                root,
                &BootListEntry::new(*address, *vendor, *device, driver),
            )
        }
        Step::SetVgpu { address, to, .. } => set_vgpu::set(root, *address, *to),
        Step::SetConsole { console, to, .. } => set_console::set(root, *console, *to),
        Step::SetFramebuffer { device, driver, to, .. } => {
            set_framebuffer::set(root, device, driver, *to)
        }
        Step::SetModule { module, to, .. } => set_module::set(root, module, *to),
        Step::SetFabricSet { set, to, .. } => set_fabric_set::set(root, *set, *to),
    }
}

fn unexpected(step: &Step, found: String) -> HostError {
    HostError::Check { step: step.describe(), found }
}

/// The error for a step whose object is missing: the function itself, or a part of it.
fn absent(root: &Root, step: &Step) -> HostError {
    let gone = |address: &Address| !root.exists(&format!("{DEVICES}/{address}"));
    if let Some(address) = step.address().filter(gone) {
        return HostError::Gone { address };
    }
    unexpected(step, missing(step))
}

/// Describes the missing object of a step on more than the function.
fn missing(step: &Step) -> String {
    match step {
        Step::GrantGroup { group, .. } => grant_group::missing(*group),
        Step::GrantNode { node, .. } => grant_node::missing(*node),
        Step::SetMdevAttribute { uuid, .. } => create_mdev::missing(*uuid),
        Step::SetVgpu { .. } => set_vgpu::MISSING.into(),
        Step::SetPersistence { .. } => set_persistence::MISSING.into(),
        Step::SetUnit { unit, .. } => set_unit::missing(unit),
        Step::SetConsole { console, .. } => set_console::missing(*console),
        Step::SetFramebuffer { device, .. } => set_framebuffer::missing(device),
        Step::SetFabricSet { set, .. } => set_fabric_set::missing(*set),
        Step::Mark { .. }
        | Step::Unmark { .. }
        | Step::LoadModule { .. }
        | Step::SetOverride { .. }
        | Step::Unbind { .. }
        | Step::Bind { .. }
        | Step::Return { .. }
        | Step::SetPower { .. }
        | Step::Evict { .. }
        | Step::Reset { .. }
        | Step::SetVfCount { .. }
        | Step::SetAutoprobe { .. }
        | Step::SetVf { .. }
        | Step::CreateMdev { .. }
        | Step::RemoveMdev { .. }
        | Step::DefineMdev { .. }
        | Step::UndefineMdev { .. }
        | Step::AddToBootList { .. }
        | Step::RemoveFromBootList { .. }
        | Step::SetModule { .. } => "nothing at that address".into(),
    }
}
