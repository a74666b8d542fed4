//! Instances and their life cycle: each verb is an operation in the journal.

mod agent;
mod attach;
mod blocks;
mod bring_up;
mod container;
mod create;
mod delete;
mod detach;
mod disks;
mod first_boot;
mod gpu_driver;
mod guest_buses;
mod guest_sessions;
mod moving;
mod networks;
mod options;
mod outline;
mod parts;
mod pause;
mod read;
mod recover;
mod roms;
mod screen;
mod seat;
mod settings;
mod start;
mod stop;
mod supervise;
mod usage;
mod watch;
mod whereabouts;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use model::{
    Availability, Code, DiskFile, Exit, HugeMemory, KernelBoot, Launcher, MachineDisk,
    MachineHandle, MachineSpec, Placement, Presence, Refusal, SparePorts,
};
use uuid::Uuid;

use crate::claims::Claims;
use crate::guest_agent::Sessions;
use crate::hardware::Hardware;
use crate::images::Images;
use crate::journal::{Journal, StepError};
use crate::refusals;
use crate::store::{Durability, OpenOperation, Store, StoredClaim, StoredImage, StoredInstance};
use crate::volumes::Volumes;
use crate::{Config, InstanceState, MachineStep, Outcome};

pub use agent::GuestProcess;
pub use first_boot::NO_USER_DATA;
pub use guest_sessions::{Closer, CopyPart, GuestInput, GuestOutput, GuestSession, NotStarted};
pub use networks::SSH_PORTS;
pub use outline::Outline;
pub use screen::ScreenAccess;
use supervise::Supervision;
pub use supervise::{Blocked, Restarts};

/// Instances: [`Engine::instances`](crate::Engine::instances). Owns the table `instances`; the state machine of an
/// instance is drawn in `docs/design.md`.
pub struct Instances {
    /// Weak self-reference, for threads that may outlive it.
    me: Weak<Self>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    claims: Arc<Claims>,
    images: Arc<Images>,
    volumes: Arc<Volumes>,
    launchers: Vec<Arc<dyn Launcher>>,
    config: Arc<Config>,
    /// The runs of machines that a thread watches.
    watched: Mutex<Vec<MachineHandle>>,
    supervision: Supervision,
    /// The instances whose machines are being started: what is recorded of their cores is what they will have.
    placing: Mutex<BTreeSet<Uuid>>,
    agents: Sessions,
}

impl Instances {
    pub(crate) fn new(
        journal: Arc<Journal>,
        hardware: Arc<Hardware>,
        claims: Arc<Claims>,
        images: Arc<Images>,
        volumes: Arc<Volumes>,
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
            volumes,
            launchers,
            config,
            watched: Mutex::default(),
            supervision: Supervision::default(),
            placing: Mutex::default(),
            agents: Sessions::default(),
        })
    }

    /// The launchers, each with its availability on this host.
    #[must_use]
    pub fn hypervisors(&self) -> Vec<(&'static str, Availability)> {
        let launchers = self.launchers.iter();
        launchers.map(|launcher| (launcher.name(), launcher.availability())).collect()
    }

    fn stored_instance(&self, key: &str) -> Result<StoredInstance, Refusal> {
        self.store
            .read(|from| StoredInstance::by_key(from, key))?
            .ok_or_else(|| refusals::no_such("instance", key, "handover instance list"))
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
                format!("unknown hypervisor {name:?}"),
                format!("use {}", known.join(" or ")),
            )
        })
    }

    /// The launcher, if it can start machines on this host.
    fn usable_launcher(&self, name: &str) -> Result<&Arc<dyn Launcher>, Refusal> {
        let launcher = self.launcher(name)?;
        let availability = launcher.availability();
        if availability.available {
            return Ok(launcher);
        }
        let reason = availability.reason.unwrap_or_else(|| "no reason given".into());
        Err(Refusal::new(
            Code::HypervisorMissing,
            format!("{name} cannot be used: {reason}"),
            refusals::install(&availability.remedy.unwrap_or_default()),
        ))
    }

    /// The default launcher: the first one.
    fn default_launcher(&self) -> &'static str {
        self.launchers.first().map_or("none", |launcher| launcher.name())
    }

    /// The specification for the launcher.
    fn spec(
        &self,
        row: &StoredInstance,
        image: &StoredImage,
        disks: Vec<DiskFile>,
        claims: &[StoredClaim],
        (huge_pages, placement): (Option<HugeMemory>, Option<Placement>),
        spare: SparePorts,
    ) -> MachineSpec {
        let files = self.images.paths(image.id);
        let cmdlines = [&image.image.cmdline, &row.instance.cmdline];
        let is_without_root = row.instance.options.is_without_root;
        let root = image.image.disk_format.filter(|_| !is_without_root);
        let cmdline = cmdlines.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        MachineSpec {
            id: row.instance.id,
            name: row.instance.name.clone(),
            uid: row.instance.uid,
            vcpus: row.instance.vcpus,
            memory: whole_mib(row.instance.memory),
            huge_pages,
            placement,
            kernel: (image.image.has_kernel && !is_without_root).then(|| KernelBoot {
                kernel: files.kernel,
                initrd: image.has_initrd.then_some(files.initrd),
                cmdline,
            }),
            disk: root.map(|format| MachineDisk {
                base: files.disk,
                format,
                size: row.instance.overlay_size,
            }),
            container: None,
            disks,
            slots: claims.iter().map(moving::slot_of).collect(),
            access: row.instance.options.device_access.unwrap_or_default(),
            spare,
            usb: row.instance.options.seat.given.clone(),
            options: row.instance.options.clone(),
        }
    }

    /// Kills the machine. `Ok` guarantees that its process is gone.
    fn end_machine(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
    ) -> Result<(), StepError> {
        let launcher = self.launcher(&row.instance.hypervisor)?;
        self.journal.machine(operation, MachineStep::End, || launcher.kill(row.instance.id))
    }

    /// Records that it is unknown whether the machine runs: its devices are then not touched.
    fn close_unknown(
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

    /// Checks again whether the machine of an instance in state `Unknown` runs.
    fn resolve_unknown(&self, row: &mut StoredInstance) -> Result<(), Refusal> {
        if row.instance.state != InstanceState::Unknown {
            return Ok(());
        }
        match self.launcher(&row.instance.hypervisor)?.find(row.instance.id) {
            Presence::Running(handle) => {
                row.instance.pid = handle.pid();
                row.machine = Some(handle.clone());
                row.instance.state = self.state_of_running(row);
                row.instance.state_error = None;
                self.watch(&row.instance.hypervisor, handle)?;
            }
            Presence::Gone => self.set_ended(row, InstanceState::Shutdown, Exit { code: None }),
            Presence::Unknown(why) => return Err(unknown(&row.instance.name, &why)),
        }
        self.save(row)
    }
}

impl StoredInstance {
    /// Sets the fields of an instance whose machine is gone.
    pub(crate) fn set_ended(&mut self, state: InstanceState, exit: Exit) {
        self.instance.state = state;
        self.instance.state_error = None;
        self.instance.pid = None;
        self.machine = None;
        self.instance.exit_code = exit.code;
        self.instance.stopped_at = Some(jiff::Timestamp::now());
    }
}

/// The refusal for an instance if it is unknown whether its machine runs.
fn unknown(name: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::InvalidState,
        format!("cannot determine whether the machine of {name:?} runs: {why}"),
        "end its process by hand, then retry; Handover does not touch its devices before that",
    )
}

/// The refusal for a verb that the instance's state does not allow.
fn wrong_state(row: &StoredInstance, verb: &str, instead: impl Into<String>) -> Refusal {
    Refusal::new(
        Code::InvalidState,
        format!("{:?} is {:?} and cannot be {verb}", row.instance.name, row.instance.state),
        instead,
    )
}

/// Whether an instance's machine has ended, as it is recorded.
const fn is_stopped(row: &StoredInstance) -> bool {
    matches!(row.instance.state, InstanceState::Stopped | InstanceState::Shutdown)
}

/// The refusal for a machine that may still run.
fn not_ended(error: StepError) -> Refusal {
    match error {
        StepError::Launch(error) => Refusal::new(
            Code::UndoFailed,
            format!("cannot stop the machine: {error}; its devices were not touched"),
            "end its process by hand, then delete the instance",
        ),
        other => other.into(),
    }
}

/// The refusal for a machine that needs more memory than the host has.
fn too_large(asked: u64, there: u64) -> Refusal {
    Refusal::new(
        Code::InsufficientResources,
        format!(
            "the machine asks for {} of memory and the host has {}",
            model::shown::bytes(asked),
            model::shown::bytes(there)
        ),
        "ask for less memory",
    )
}

/// Memory in bytes, rounded up as VMMs take it.
const fn whole_mib(memory: u64) -> u64 {
    memory.div_ceil(1 << 20).saturating_mul(1 << 20)
}
