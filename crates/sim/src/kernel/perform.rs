//! Making the change of a step, and checking it.

use model::{Address, Checked, HostError, LinkBaseline, Observed, PowerControl, Step};

use super::{Errno, Kernel, errno};

impl Kernel {
    /// Makes a change that has not been made yet, and sees that it took.
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
    /// Where it cannot be done as the host is.
    pub(crate) fn prepare(&mut self, step: &Step) -> Result<bool, HostError> {
        match (self.observed(step)?, step) {
            (Observed::After, _) => return Ok(false),
            (Observed::Other(found), _) => {
                return Err(HostError::Check { step: step.describe(), found });
            }
            (Observed::Absent, Step::Return { address, .. }) if self.removed.remove(address) => {
                self.appear(*address, PowerControl::On);
            }
            (Observed::Absent, _) => return Err(self.absent(step)),
            (Observed::Before, _) => {}
        }
        self.refusal(step).map_or(Ok(true), |errno| Err(errno::refused(step, errno)))
    }

    /// What the host shows of a step now.
    pub(crate) fn observed(&self, step: &Step) -> Result<Observed, HostError> {
        self.observe(step).map_err(|errno| errno::refused(step, errno))
    }

    fn absent(&self, step: &Step) -> HostError {
        let gone = step.address().filter(|address| !self.functions.contains_key(address));
        if let Some(address) = gone {
            return HostError::Gone { address };
        }
        let found = match step {
            Step::GrantGroup { .. } | Step::GrantNode { .. } => "no such node",
            Step::SetUnit { .. } => "no such unit",
            Step::SetMdevAttribute { .. } => "no such mediated device",
            Step::SetPersistence { .. } => "no driver of NVIDIA's on it",
            Step::SetVgpu { .. } => "no vGPU types",
            _ => "nothing",
        };
        HostError::Check { step: step.describe(), found: found.into() }
    }

    /// What the kernel says is not what counts: `drivers_probe` reports success even when nothing bound.
    pub(crate) fn see(&self, step: &Step) -> Result<(), HostError> {
        let unexpected = |found| HostError::Check { step: step.describe(), found };
        if let Step::Reset { address, link, .. } = step {
            return self.see_reset(*address, *link).map_err(unexpected);
        }
        match self.observed(step)? {
            Observed::After => Ok(()),
            Observed::Before if matches!(step, Step::SetVfCount { .. }) => {
                Err(unexpected("fewer virtual functions than were asked for".into()))
            }
            Observed::Before => Err(unexpected("it as it was before".into())),
            Observed::Other(found) => Err(unexpected(found)),
            Observed::Absent => Err(self.absent(step)),
        }
    }

    fn see_reset(&self, address: Address, link: Option<LinkBaseline>) -> Result<(), String> {
        match self.checked(address, link) {
            Checked::Well => Ok(()),
            Checked::Silent => Err("that its configuration space answers all ones".into()),
            Checked::Slower { now } => {
                Err(format!("a link of {} tenths of GT/s, {} lanes", now.speed, now.width))
            }
        }
    }

    /// Whether the kernel would not come back from the step before somebody is gone whom no worker looks for.
    pub(crate) fn blocks(&self, step: &Step) -> bool {
        self.waits(step) && self.refusal(step).is_none()
    }

    /// Whether the kernel would not come back from the step before somebody is gone.
    pub(crate) fn waits(&self, step: &Step) -> bool {
        let waits = match step {
            Step::Unbind { address, .. } => self.unbind_blocks(*address),
            Step::SetVfCount { address, .. } => self.count_blocks(*address),
            Step::RemoveMdev { uuid, .. } => self.removal_blocks(*uuid),
            _ => false,
        };
        waits && self.observe(step) == Ok(Observed::Before)
    }

    pub(crate) fn make(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::LoadModule { module } => {
                self.modules.insert(module.clone());
                Ok(())
            }
            Step::SetOverride { address, to, .. } => {
                self.change(*address, |state| state.driver_override.clone_from(to))
            }
            Step::SetPower { address, to, .. } => self.change(*address, |state| state.power = *to),
            Step::Unbind { address, driver } => self.unbind(*address, driver),
            Step::Bind { address, .. } => self.probe(*address),
            Step::Return { address, driver } => self.give_back(*address, driver),
            Step::GrantGroup { group, to, .. } => self.grant_group(*group, *to),
            Step::GrantNode { address, node, to, .. } => self.grant(*address, *node, *to),
            Step::Evict { pid, started, .. } => {
                self.evict(*pid, *started);
                Ok(())
            }
            Step::SetPersistence { address, to, .. } => self.set_persistence(*address, *to),
            Step::SetUnit { unit, to, .. } => self.set_unit(unit, *to),
            Step::Reset { address, .. } => self.reset(*address),
            Step::SetVfCount { address, from, to } => self.set_vf_count(*address, *from, *to),
            Step::SetAutoprobe { address, to, .. } => {
                self.change(*address, |state| state.autoprobe = Some(*to))
            }
            Step::SetVf { address, parent, index, to, .. } => {
                self.tell(*address, *parent, *index, to)
            }
            Step::CreateMdev { address, uuid, type_id } => {
                self.create_mdev(*address, *uuid, type_id)
            }
            Step::RemoveMdev { address, uuid, .. } => self.remove_mdev(*address, *uuid),
            Step::SetMdevAttribute { address, uuid, name, value } => {
                self.write_mdev(*address, *uuid, name, value)
            }
            Step::DefineMdev { uuid, .. } => {
                self.definitions.extend(step.definition().map(|ours| (*uuid, ours)));
                Ok(())
            }
            Step::UndefineMdev { uuid, .. } => {
                self.definitions.remove(uuid);
                Ok(())
            }
            Step::ReserveAtBoot { address, .. } => {
                self.boot_list.extend(step.reservation().map(|ours| (*address, ours)));
                Ok(())
            }
            Step::UnreserveAtBoot { address, .. } => {
                self.boot_list.remove(address);
                Ok(())
            }
            Step::SetVgpu { address, to, .. } => self.set_vgpu(*address, *to),
        }
    }
}
