//! Instances: their life cycle, each change of it an operation in the journal.

mod bring_up;
mod create;
mod delete;
mod read;
mod recover;
mod start;
mod stop;
mod watch;

use std::sync::{Arc, Weak};

use model::{
    Availability, Code, Exit, GuestSlot, KernelBoot, Launcher, MachineDisk, MachineSpec, Presence,
    Refusal,
};

use crate::claims::Claims;
use crate::hardware::Hardware;
use crate::images::Images;
use crate::journal::{Journal, StepError};
use crate::refusals;
use crate::store::{Durability, OpenOperation, Store, StoredClaim, StoredImage, StoredInstance};
use crate::{Config, InstanceState, MachineStep, Outcome};

/// Instances: [`Engine::instances`](crate::Engine::instances). They own the table `instances`; the state machine of an instance is
/// drawn in `docs/design.md`.
pub struct Instances {
    /// Itself, for threads that may outlive it.
    me: Weak<Self>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    claims: Arc<Claims>,
    images: Arc<Images>,
    launchers: Vec<Arc<dyn Launcher>>,
    config: Arc<Config>,
}

impl Instances {
    pub(crate) fn new(
        journal: Arc<Journal>,
        hardware: Arc<Hardware>,
        claims: Arc<Claims>,
        images: Arc<Images>,
        launchers: Vec<Arc<dyn Launcher>>,
        config: Arc<Config>,
    ) -> Arc<Self> {
        let store = journal.store.clone();
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            store,
            journal,
            hardware,
            claims,
            images,
            launchers,
            config,
        })
    }

    /// The launchers, and whether they can be used here.
    #[must_use]
    pub fn hypervisors(&self) -> Vec<(&'static str, Availability)> {
        let launchers = self.launchers.iter();
        launchers.map(|launcher| (launcher.name(), launcher.availability())).collect()
    }

    fn stored_instance(&self, key: &str) -> Result<StoredInstance, Refusal> {
        self.store
            .read(|from| StoredInstance::by_key(from, key))?
            .ok_or_else(|| refusals::no_such("instance", key, "handover instance ls"))
    }

    fn save(&self, row: &StoredInstance) -> Result<(), Refusal> {
        self.store.write(Durability::Power, |tx| row.update(tx))?;
        self.journal.notify();
        Ok(())
    }

    fn host_memory(&self) -> Result<u64, Refusal> {
        let capacity = self.hardware.host.capacity();
        capacity.map(|capacity| capacity.memory).map_err(|error| refusals::unreadable(&error))
    }

    fn launcher(&self, name: &str) -> Result<&Arc<dyn Launcher>, Refusal> {
        self.launchers.iter().find(|launcher| launcher.name() == name).ok_or_else(|| {
            let known: Vec<_> = self.launchers.iter().map(|launcher| launcher.name()).collect();
            Refusal::new(
                Code::InvalidRequest,
                format!("{name:?} is no hypervisor that Handover knows"),
                format!("use {}", known.join(" or ")),
            )
        })
    }

    /// A launcher that can start something here.
    fn usable_launcher(&self, name: &str) -> Result<&Arc<dyn Launcher>, Refusal> {
        let launcher = self.launcher(name)?;
        let availability = launcher.availability();
        if availability.available {
            return Ok(launcher);
        }
        let reason = availability.reason.unwrap_or_else(|| "it does not say why".into());
        Err(Refusal::new(
            Code::HypervisorMissing,
            format!("{name} cannot be used: {reason}"),
            refusals::install(&availability.remedy.unwrap_or_default()),
        ))
    }

    /// The launcher that is used where none is asked for: the first.
    fn default_launcher(&self) -> &'static str {
        self.launchers.first().map_or("none", |launcher| launcher.name())
    }

    /// What the launcher is to start.
    fn spec(
        &self,
        row: &StoredInstance,
        image: &StoredImage,
        claims: &[StoredClaim],
    ) -> MachineSpec {
        let files = self.images.paths(image.id);
        let words = [&image.image.cmdline, &row.instance.cmdline];
        let cmdline = words.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        MachineSpec {
            id: row.instance.id,
            name: row.instance.name.clone(),
            uid: row.instance.uid,
            vcpus: row.instance.vcpus,
            memory: row.instance.memory,
            kernel: image.image.has_kernel.then(|| KernelBoot {
                kernel: files.kernel,
                initrd: image.has_initrd.then_some(files.initrd),
                cmdline,
            }),
            disk: image.image.disk_format.map(|format| MachineDisk {
                base: files.disk,
                format,
                size: row.instance.overlay_size,
            }),
            slots: claims
                .iter()
                .flat_map(|claim| &claim.claim.parts)
                .map(GuestSlot::for_part)
                .collect(),
        }
    }

    /// Ends the machine at once; when this returns well, it is provably gone.
    fn end_machine(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
    ) -> Result<(), StepError> {
        let launcher = self.launcher(&row.instance.hypervisor)?;
        self.journal.machine(operation, MachineStep::End, || launcher.kill(row.instance.id))
    }

    /// Records that it cannot be told whether the machine runs: its devices are not touched then.
    fn give_up(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        cause: &Refusal,
    ) -> Result<(), Refusal> {
        row.instance.state = InstanceState::Unknown;
        row.instance.state_error = Some(cause.message.clone());
        self.journal
            .close_operation(operation, Outcome::Failed, Some(&cause.message), |tx| row.update(tx))
    }

    /// Finds out again what an unknown instance is.
    fn settle(&self, row: &mut StoredInstance) -> Result<(), Refusal> {
        if row.instance.state != InstanceState::Unknown {
            return Ok(());
        }
        match self.launcher(&row.instance.hypervisor)?.find(row.instance.id) {
            Presence::Running(handle) => {
                row.instance.pid = handle.pid();
                row.machine = Some(handle.clone());
                row.instance.state = InstanceState::Running;
                row.instance.state_error = None;
                self.watch(&row.instance.hypervisor, handle)?;
            }
            Presence::Gone => row.ended(InstanceState::Shutdown, Exit { code: None }),
            Presence::Unknown(why) => return Err(unknown(&row.instance.name, &why)),
        }
        self.save(row)
    }
}

impl StoredInstance {
    /// The machine is gone.
    pub(crate) fn ended(&mut self, state: InstanceState, exit: Exit) {
        self.instance.state = state;
        self.instance.state_error = None;
        self.instance.pid = None;
        self.machine = None;
        self.instance.exit_code = exit.code;
        self.instance.stopped_at = Some(jiff::Timestamp::now());
    }
}

/// The refusal for an instance of which it cannot be told whether it runs.
fn unknown(name: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::InvalidState,
        format!("it cannot be told whether the machine of {name:?} runs: {why}"),
        "end its process by hand, then try again; its devices are not touched before that",
    )
}

/// The refusal of a verb in a state.
fn wrong_state(row: &StoredInstance, verb: &str, instead: &str) -> Refusal {
    Refusal::new(
        Code::InvalidState,
        format!("{:?} is {:?} and cannot be {verb}", row.instance.name, row.instance.state),
        instead,
    )
}

/// The machine cannot be proven to be gone.
fn not_ended(error: StepError) -> Refusal {
    match error {
        StepError::Launch(error) => Refusal::new(
            Code::UndoFailed,
            format!("the machine cannot be ended: {error}; its devices were not touched"),
            "end its process by hand, then delete the instance",
        ),
        other => other.into(),
    }
}

/// The host has not enough for a machine.
fn too_large(asked: u64, there: u64) -> Refusal {
    Refusal::new(
        Code::InsufficientResources,
        format!(
            "the machine asks for {} of memory and the host has {}",
            model::format_size(asked),
            model::format_size(there)
        ),
        "ask for less memory",
    )
}
