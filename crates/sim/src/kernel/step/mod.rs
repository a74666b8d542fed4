//! Observing and performing steps; each kind has a file of its name.

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

use model::boot_list::BootListEntry;
use model::{Address, HostError, MdevDefinition, Observed, Step, WhenAbsent};

use super::{Errno, FunctionState, Kernel, errno};

impl Kernel {
    /// Performs a step, unless it is already done, and checks the result.
    pub(crate) fn perform(&mut self, step: &Step) -> Result<(), HostError> {
        if !self.prepare(step)? {
            return Ok(());
        }
        self.make(step).map_err(|error| errno::refused(step, error))?;
        self.see(step)
    }

    /// Whether there is something to do.
    ///
    /// # Errors
    /// If the host's state does not allow it.
    pub(crate) fn prepare(&mut self, step: &Step) -> Result<bool, HostError> {
        match self.observed(step)? {
            Observed::After => return Ok(false),
            Observed::Other(found) => {
                return Err(HostError::Check { step: step.describe(), found });
            }
            Observed::Absent => match (step.facts().when_absent, step.address()) {
                (WhenAbsent::FoundAgain, Some(address)) if r#return::find_again(self, address) => {}
                (WhenAbsent::FoundAgain | WhenAbsent::Fails | WhenAbsent::Undone, _) => {
                    return Err(self.absent(step));
                }
            },
            Observed::Before => {}
        }
        self.refusal(step).map_or(Ok(true), |errno| Err(errno::refused(step, errno)))
    }

    /// Observes the current state of what a step changes.
    pub(crate) fn observed(&self, step: &Step) -> Result<Observed, HostError> {
        self.observe(step).map_err(|errno| errno::refused(step, errno))
    }

    fn absent(&self, step: &Step) -> HostError {
        let gone = step.address().filter(|address| !self.functions.contains_key(address));
        if let Some(address) = gone {
            return HostError::Gone { address };
        }
        HostError::Check { step: step.describe(), found: missing(step).into() }
    }

    /// Do not trust the kernel's result: `drivers_probe` reports success even if no driver was bound.
    pub(crate) fn see(&self, step: &Step) -> Result<(), HostError> {
        let unexpected = |found| HostError::Check { step: step.describe(), found };
        if let Step::Reset { address, link, .. } = step {
            return reset::see(self, *address, *link).map_err(unexpected);
        }
        match self.observed(step)? {
            Observed::After => Ok(()),
            Observed::Before if matches!(step, Step::SetVfCount { .. }) => {
                Err(unexpected(set_vf_count::FEWER.into()))
            }
            Observed::Before => Err(unexpected("that the change had no effect".into())),
            Observed::Other(found) => Err(unexpected(found)),
            Observed::Absent => Err(self.absent(step)),
        }
    }

    /// Whether the step would block in the kernel on a user that no worker checks for.
    pub(crate) fn blocks(&self, step: &Step) -> bool {
        self.waits(step) && self.refusal(step).is_none()
    }

    /// Whether the step would block in the kernel on a user.
    pub(crate) fn waits(&self, step: &Step) -> bool {
        step.facts().waits_for_users
            && self.is_used(step)
            && self.observe(step) == Ok(Observed::Before)
    }
}

/// The parts of each kind of step.
impl Kernel {
    /// Observes the current state of what a step changes.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn observe(&self, step: &Step) -> Result<Observed, Errno> {
        Ok(match step {
            Step::Mark { address, mark } => mark::observe(self, *address, mark),
            Step::Unmark { address, mark } => unmark::observe(self, *address, mark),
            Step::LoadModule { module } => load_module::observe(self, module),
            Step::SetOverride { address, from, to } => {
                set_override::observe(self, *address, from, to)
            }
            Step::Unbind { address, driver } => unbind::observe(self, *address, driver),
            Step::Bind { address, driver } => bind::observe(self, *address, driver),
            Step::Return { address, driver } => r#return::observe(self, *address, driver),
            Step::SetPower { address, to, .. } => set_power::observe(self, *address, *to),
            Step::GrantGroup { address, group, from, to } => {
                grant_group::observe(self, *address, *group, from, to)
            }
            Step::GrantNode { address, node, from, to } => {
                grant_node::observe(self, *address, *node, from, to)
            }
            Step::Evict { pid, started, .. } => evict::observe(self, *pid, *started),
            Step::SetPersistence { address, to, .. } => {
                set_persistence::observe(self, *address, *to)
            }
            Step::SetUnit { unit, to, .. } => set_unit::observe(self, unit, *to),
            Step::Reset { address, .. } => reset::observe(self, *address),
            Step::SetVfCount { address, from, to } => {
                set_vf_count::observe(self, *address, *from, *to)?
            }
            Step::SetAutoprobe { address, to, .. } => set_autoprobe::observe(self, *address, *to),
            Step::SetVf { address, parent, index, from, to } => {
                set_vf::observe(self, *address, *parent, *index, from, to)?
            }
            Step::CreateMdev { address, uuid, type_id } => {
                create_mdev::observe(self, *address, *uuid, type_id)
            }
            Step::RemoveMdev { address, uuid, type_id } => {
                remove_mdev::observe(self, *address, *uuid, type_id)
            }
            Step::SetMdevAttribute { address, uuid, name, value } => {
                set_mdev_attribute::observe(self, *address, *uuid, name, value)
            }
            Step::DefineMdev { .. }
            | Step::UndefineMdev { .. }
            | Step::AddToBootList { .. }
            | Step::RemoveFromBootList { .. } => self.observe_file(step),
            Step::SetVgpu { address, from, to } => set_vgpu::observe(self, *address, *from, *to),
            Step::SetConsole { console, to, .. } => set_console::observe(self, *console, *to),
            Step::SetFramebuffer { device, to, .. } => set_framebuffer::observe(self, device, *to),
            Step::SetModule { module, to, .. } => set_module::observe(self, module, *to),
            Step::SetFabricSet { set, to, .. } => set_fabric_set::observe(self, *set, *to),
        })
    }

    /// The present state for a step that changes a file.
    fn observe_file(&self, step: &Step) -> Observed {
        match step {
            Step::DefineMdev { address, uuid, type_id, attributes } => {
                let ours = MdevDefinition::new(*address, *uuid, type_id, attributes);
                define_mdev::observe(self, &ours)
            }
            Step::UndefineMdev { address, uuid, type_id, attributes } => {
                let ours = MdevDefinition::new(*address, *uuid, type_id, attributes);
                undefine_mdev::observe(self, &ours)
            }
            Step::AddToBootList { address, vendor, device, driver } => {
                let ours = BootListEntry::new(*address, *vendor, *device, driver);
                add_to_boot_list::observe(self, &ours)
            }
            Step::RemoveFromBootList { address, vendor, device, driver } => {
                let ours = BootListEntry::new(*address, *vendor, *device, driver);
                remove_from_boot_list::observe(self, &ours)
            }
            _ => Observed::Absent,
        }
    }

    /// Changes the host.
    pub(crate) fn make(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::Mark { address, mark } => mark::make(self, *address, mark)?,
            Step::Unmark { address, .. } => unmark::make(self, *address)?,
            Step::LoadModule { module } => load_module::make(self, module),
            Step::SetOverride { address, to, .. } => set_override::make(self, *address, to)?,
            Step::Unbind { address, driver } => unbind::make(self, *address, driver)?,
            Step::Bind { address, .. } => bind::make(self, *address)?,
            Step::Return { address, driver } => r#return::make(self, *address, driver)?,
            Step::SetPower { address, to, .. } => set_power::make(self, *address, *to)?,
            Step::GrantGroup { group, to, .. } => grant_group::make(self, *group, *to)?,
            Step::GrantNode { address, node, to, .. } => {
                grant_node::make(self, *address, *node, *to)?;
            }
            Step::Evict { pid, started, .. } => evict::make(self, *pid, *started),
            Step::SetPersistence { address, to, .. } => {
                set_persistence::make(self, *address, *to)?;
            }
            Step::SetUnit { unit, to, .. } => set_unit::make(self, unit, *to)?,
            Step::Reset { address, .. } => reset::make(self, *address)?,
            Step::SetVfCount { address, from, to } => {
                set_vf_count::make(self, *address, *from, *to)?;
            }
            Step::SetAutoprobe { address, to, .. } => set_autoprobe::make(self, *address, *to)?,
            Step::SetVf { address, parent, index, to, .. } => {
                set_vf::make(self, *address, *parent, *index, to)?;
            }
            Step::CreateMdev { address, uuid, type_id } => {
                create_mdev::make(self, *address, *uuid, type_id)?;
            }
            Step::RemoveMdev { address, uuid, .. } => remove_mdev::make(self, *address, *uuid)?,
            Step::SetMdevAttribute { address, uuid, name, value } => {
                set_mdev_attribute::make(self, *address, *uuid, name, value)?;
            }
            Step::DefineMdev { address, uuid, type_id, attributes } => {
                let ours = MdevDefinition::new(*address, *uuid, type_id, attributes);
                define_mdev::make(self, ours);
            }
            Step::UndefineMdev { uuid, .. } => undefine_mdev::make(self, *uuid),
            Step::AddToBootList { address, vendor, device, driver } => {
                let ours = BootListEntry::new(*address, *vendor, *device, driver);
                add_to_boot_list::make(self, ours);
            }
            Step::RemoveFromBootList { address, .. } => remove_from_boot_list::make(self, *address),
            Step::SetVgpu { address, to, .. } => set_vgpu::make(self, *address, *to)?,
            Step::SetConsole { console, to, .. } => set_console::make(self, *console, *to)?,
            Step::SetFramebuffer { device, to, .. } => set_framebuffer::make(self, device, *to)?,
            Step::SetModule { module, to, .. } => set_module::make(self, module, *to)?,
            Step::SetFabricSet { set, to, .. } => set_fabric_set::make(self, *set, *to)?,
        }
        Ok(())
    }

    /// Why a worker refuses the step: it first checks for users on which the kernel would block, or which the step
    /// would affect.
    fn refusal(&self, step: &Step) -> Option<Errno> {
        match step {
            Step::Unbind { address, .. } => unbind::refusal(self, *address),
            Step::Evict { pid, started, .. } => evict::refusal(self, *pid, *started),
            Step::Reset { address, domain, .. } => reset::refusal(self, *address, domain),
            Step::SetVfCount { address, .. } => set_vf_count::refusal(self, *address),
            Step::RemoveMdev { uuid, .. } => remove_mdev::refusal(self, *uuid),
            Step::SetVgpu { address, to, .. } => set_vgpu::refusal(self, *address, *to),
            Step::Mark { .. }
            | Step::Unmark { .. }
            | Step::LoadModule { .. }
            | Step::SetOverride { .. }
            | Step::Bind { .. }
            | Step::Return { .. }
            | Step::SetPower { .. }
            | Step::GrantGroup { .. }
            | Step::GrantNode { .. }
            | Step::SetPersistence { .. }
            | Step::SetUnit { .. }
            | Step::SetConsole { .. }
            | Step::SetFramebuffer { .. }
            | Step::SetModule { .. }
            | Step::SetFabricSet { .. }
            | Step::SetAutoprobe { .. }
            | Step::SetVf { .. }
            | Step::CreateMdev { .. }
            | Step::SetMdevAttribute { .. }
            | Step::DefineMdev { .. }
            | Step::UndefineMdev { .. }
            | Step::AddToBootList { .. }
            | Step::RemoveFromBootList { .. } => None,
        }
    }

    /// Whether there are users on which the kernel would block.
    fn is_used(&self, step: &Step) -> bool {
        match step {
            Step::Unbind { address, .. } => self.unbind_blocks(*address),
            Step::SetVfCount { address, .. } => self.count_blocks(*address),
            Step::RemoveMdev { uuid, .. } => self.removal_blocks(*uuid),
            Step::Mark { .. }
            | Step::Unmark { .. }
            | Step::LoadModule { .. }
            | Step::SetOverride { .. }
            | Step::Bind { .. }
            | Step::Return { .. }
            | Step::SetPower { .. }
            | Step::GrantGroup { .. }
            | Step::GrantNode { .. }
            | Step::Evict { .. }
            | Step::SetPersistence { .. }
            | Step::SetUnit { .. }
            | Step::Reset { .. }
            | Step::SetAutoprobe { .. }
            | Step::SetVf { .. }
            | Step::CreateMdev { .. }
            | Step::SetMdevAttribute { .. }
            | Step::DefineMdev { .. }
            | Step::UndefineMdev { .. }
            | Step::AddToBootList { .. }
            | Step::RemoveFromBootList { .. }
            | Step::SetVgpu { .. }
            | Step::SetConsole { .. }
            | Step::SetFramebuffer { .. }
            | Step::SetModule { .. }
            | Step::SetFabricSet { .. } => false,
        }
    }
}

/// What is missing if a step changes an object of the function.
const fn missing(step: &Step) -> &'static str {
    match step {
        Step::GrantGroup { .. } => grant_group::MISSING,
        Step::GrantNode { .. } => grant_node::MISSING,
        Step::SetUnit { .. } => set_unit::MISSING,
        Step::SetConsole { .. } => set_console::MISSING,
        Step::SetFramebuffer { .. } => set_framebuffer::MISSING,
        Step::SetFabricSet { .. } => set_fabric_set::MISSING,
        Step::SetMdevAttribute { .. } => set_mdev_attribute::MISSING,
        Step::SetPersistence { .. } => set_persistence::MISSING,
        Step::SetVgpu { .. } => set_vgpu::MISSING,
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
        | Step::SetModule { .. } => "nothing",
    }
}

/// The errors of the kernel or other programs for a kind of step, the most common one first.
pub(crate) const fn errors(step: &Step) -> &'static [Errno] {
    match step {
        Step::Mark { .. } => mark::ERRORS,
        Step::Unmark { .. } => unmark::ERRORS,
        Step::LoadModule { .. } => load_module::ERRORS,
        Step::SetOverride { .. } => set_override::ERRORS,
        Step::Unbind { .. } => unbind::ERRORS,
        Step::Bind { .. } => bind::ERRORS,
        Step::Return { .. } => r#return::ERRORS,
        Step::SetPower { .. } => set_power::ERRORS,
        Step::GrantGroup { .. } => grant_group::ERRORS,
        Step::GrantNode { .. } => grant_node::ERRORS,
        Step::Evict { .. } => evict::ERRORS,
        Step::SetPersistence { .. } => set_persistence::ERRORS,
        Step::SetUnit { .. } => set_unit::ERRORS,
        Step::Reset { .. } => reset::ERRORS,
        Step::SetVfCount { .. } => set_vf_count::ERRORS,
        Step::SetAutoprobe { .. } => set_autoprobe::ERRORS,
        Step::SetVf { .. } => set_vf::ERRORS,
        Step::CreateMdev { .. } => create_mdev::ERRORS,
        Step::RemoveMdev { .. } => remove_mdev::ERRORS,
        Step::SetMdevAttribute { .. } => set_mdev_attribute::ERRORS,
        Step::DefineMdev { .. } => define_mdev::ERRORS,
        Step::UndefineMdev { .. } => undefine_mdev::ERRORS,
        Step::AddToBootList { .. } => add_to_boot_list::ERRORS,
        Step::RemoveFromBootList { .. } => remove_from_boot_list::ERRORS,
        Step::SetVgpu { .. } => set_vgpu::ERRORS,
        Step::SetConsole { .. } => set_console::ERRORS,
        Step::SetFramebuffer { .. } => set_framebuffer::ERRORS,
        Step::SetModule { .. } => set_module::ERRORS,
        Step::SetFabricSet { .. } => set_fabric_set::ERRORS,
    }
}

/// The observation of a step on a function: absent if the function, or the object that it changes, is gone.
fn of_function(
    kernel: &Kernel,
    address: Address,
    look: impl FnOnce(&FunctionState) -> Option<Observed>,
) -> Observed {
    kernel.functions.get(&address).and_then(look).unwrap_or(Observed::Absent)
}
