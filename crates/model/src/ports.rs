//! The ports: what the engine needs of a host and of a launcher. Plain synchronous traits, so that the engine runs
//! whole on the real kernel, on the lab's, and on the simulation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Address, AsFound, Availability, Exit, HostError, HostLock, HostLockError, Inventory,
    LinkBaseline, Lock, MachineHandle, MachineSpec, Mark, MdevDefinition, Moment, NodeAccess,
    Observed, Presence, Step, VfSettings,
};

/// The kernel's side of a hand-over.
pub trait Host: Send + Sync {
    /// Takes the lock on the host, which a process needs to change its devices. A process that is refused learns the
    /// holder's `state_dir`.
    ///
    /// # Errors
    /// Where another process has it, or the host refuses.
    fn lock_host(&self, state_dir: &Path) -> Result<Box<dyn HostLock>, HostLockError>;

    /// This boot's id (`/proc/sys/kernel/random/boot_id`).
    ///
    /// # Errors
    /// Where it cannot be read.
    fn boot_id(&self) -> Result<String, HostError>;

    /// What the host's clocks show now.
    fn now(&self) -> Moment;

    /// A snapshot of the hardware, at listing depth: wakes and locks nothing.
    ///
    /// # Errors
    /// Where not even the list of functions can be read; a single bad attribute becomes a note.
    fn inventory(&self) -> Result<Inventory, HostError>;

    /// The snapshot with no more than choosing and planning need: it may leave out BARs, power, nodes, the types of groups
    /// and the memory of NUMA nodes.
    ///
    /// # Errors
    /// As [`inventory`](Self::inventory).
    fn sketch(&self) -> Result<Inventory, HostError> {
        self.inventory()
    }

    /// These functions as [`inventory`](Self::inventory) shows them, and nothing of the others; of groups, those that they
    /// are in; it may leave out their virtual functions, and all nodes but VFIO's. For who wants to know how they are and not what
    /// else there is.
    ///
    /// # Errors
    /// As [`inventory`](Self::inventory).
    fn functions(&self, addresses: &[Address]) -> Result<Inventory, HostError> {
        let mut inventory = self.inventory()?;
        inventory.functions.retain(|address, _| addresses.contains(address));
        let groups: Vec<_> = inventory.functions.values().filter_map(|f| f.iommu_group).collect();
        inventory.groups.retain(|number, _| groups.contains(number));
        Ok(inventory)
    }

    /// Adds detail of these functions to an inventory or a sketch that was read just now. It is read in workers with a
    /// deadline: what could not be read in time is a note. What sleeps is not woken.
    fn complete(&self, inventory: &mut Inventory, addresses: &[Address]);

    /// Adds of detail at least what these functions can be divided into, for who chooses: the types of mediated devices and
    /// of vGPUs. What a host has no need to ask the devices themselves for, it can leave out.
    fn offers(&self, inventory: &mut Inventory, addresses: &[Address]) {
        self.complete(inventory, addresses);
    }

    /// An inventory with detail of these functions, as [`complete`](Self::complete) adds it.
    ///
    /// # Errors
    /// As [`inventory`](Self::inventory).
    fn detail(&self, addresses: &[Address]) -> Result<Inventory, HostError> {
        let mut inventory = self.inventory()?;
        self.complete(&mut inventory, addresses);
        Ok(inventory)
    }

    /// What a physical function was told of one of its virtual functions.
    ///
    /// # Errors
    /// Where its driver has no interface, or does not tell.
    fn vf_settings(&self, parent: Address, index: u16) -> Result<VfSettings, HostError>;

    /// The mediated devices of PCI functions that other tools have definitions of. A host that keeps none has none.
    fn mdev_definitions(&self) -> Vec<MdevDefinition> {
        Vec::new()
    }

    /// The functions that are kept for machines from the boot on (`handover reserve`): on vfio they are at home. A host that
    /// knows of none has none.
    fn boot_list(&self) -> Vec<Address> {
        Vec::new()
    }

    /// What must be put back later, read under a deadline since some of it takes the device's lock.
    ///
    /// # Errors
    /// Where a function is gone, or its lock is not given in time.
    fn as_found(&self, addresses: &[Address]) -> Result<Vec<AsFound>, HostError>;

    /// Owner and mode of the vfio group nodes that exist now, by group number.
    ///
    /// # Errors
    /// Where a node is there and cannot be read.
    fn group_nodes(&self, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError>;

    /// The marks that claims left on these functions, of whatever store. A host that cannot keep marks has none.
    ///
    /// # Errors
    /// Where a mark is there and cannot be read.
    fn marks(&self, addresses: &[Address]) -> Result<BTreeMap<Address, Mark>, HostError>;

    /// Who uses these functions now: open device nodes and mappings, mounted block devices, network interfaces that
    /// carry the default route.
    ///
    /// # Errors
    /// Where processes cannot be looked at at all.
    fn holders(&self, addresses: &[Address]) -> Result<Vec<Holder>, HostError>;

    /// Whether a function answers and its link is as good as it was. In a worker: a device that is lost can hold who
    /// reads it.
    ///
    /// # Errors
    /// Where it cannot be looked at in time.
    fn check(&self, address: Address, link: Option<LinkBaseline>) -> Result<Checked, HostError>;

    /// What the host shows of a step now.
    ///
    /// # Errors
    /// Where it cannot be read in time.
    fn observe(&self, step: &Step) -> Result<Observed, HostError>;

    /// Makes the change, in a worker process, under the step's lock, within its deadline, and checks the result.
    ///
    /// # Errors
    /// As [`HostError`] tells; after [`HostError::Deadline`] the worker may still be inside the kernel.
    fn perform(&self, step: &Step) -> Result<(), HostError>;

    /// Whether a worker, perhaps one of a daemon that is dead, still holds this lock.
    ///
    /// # Errors
    /// Where the lock cannot be looked at.
    fn is_locked(&self, lock: &Lock) -> Result<bool, HostError>;

    /// What the host has to give to machines.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn capacity(&self) -> Result<Capacity, HostError>;
}

/// How machines are started, found and ended. Who owns their processes is the launcher's own matter: they are its
/// children (QEMU), or those of a service that it speaks to (libvirt). A machine outlives the daemon in both cases.
pub trait Launcher: Send + Sync {
    /// The name on the wire: `qemu`, `cloud-hypervisor`, `libvirt`.
    fn name(&self) -> &'static str;

    /// Whether it can be used here, and if not, why.
    fn availability(&self) -> Availability;

    /// Makes the machine's directory and its disk layer. Done twice, it is done once.
    ///
    /// # Errors
    /// As [`LaunchError`] tells.
    fn create_files(&self, spec: &MachineSpec) -> Result<(), LaunchError>;

    /// Removes what `create_files` made. Nothing there is no error.
    ///
    /// # Errors
    /// As [`LaunchError`] tells.
    fn remove_files(&self, id: Uuid) -> Result<(), LaunchError>;

    /// Starts the machine and returns when its guest runs. The guest does not run before the machine has every device.
    ///
    /// # Errors
    /// As [`LaunchError`] tells; a machine that was started is then gone again.
    fn launch(&self, spec: &MachineSpec) -> Result<MachineHandle, LaunchError>;

    /// Looks for the machine, also where an earlier daemon started it. As long as it runs, the handle is the one that
    /// [`launch`](Self::launch) returned.
    fn find(&self, id: Uuid) -> Presence;

    /// Asks the guest to shut down, and ends the machine after `grace`. Returns when it is provably gone.
    ///
    /// # Errors
    /// Where it does not go.
    fn shut_down(&self, id: Uuid, grace: Duration) -> Result<Exit, LaunchError>;

    /// Ends the machine at once. Returns when it is provably gone; no machine there is no error.
    ///
    /// # Errors
    /// Where it does not go.
    fn kill(&self, id: Uuid) -> Result<(), LaunchError>;

    /// Waits until this run of the machine has ended.
    ///
    /// # Errors
    /// Where it cannot be watched.
    fn wait(&self, handle: &MachineHandle) -> Result<Exit, LaunchError>;

    /// The file to which the guest's serial console is written, whichever process writes it.
    fn console(&self, id: Uuid) -> PathBuf;
}

/// How a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// It answers, and its link is as good as it was.
    Well,
    /// Its configuration space reads as ones: it is lost to the bus (PCI Express Base Specification, 2.3.2).
    Silent,
    /// Its link came up slower or narrower than it was.
    Slower {
        /// The link now.
        now: LinkBaseline,
    },
}

/// Somebody who uses a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The function that is used.
    pub address: Address,
    /// The process, where it is one.
    pub pid: Option<u32>,
    /// When that process started, in the kernel's ticks since the boot: with it, it is known again.
    #[serde(default)]
    pub started: Option<u64>,
    /// The process's program (`/proc/PID/comm`).
    #[serde(default)]
    pub program: Option<String>,
    /// The user for a person: `qemu-system-x86 (pid 4711, libvirtd.service)`, `mounted at /srv`, `default route`.
    pub user: String,
    /// By what it is held: a path such as `/dev/nvidia0`, or an interface.
    pub by: String,
    /// The mediated device of the function that is used, where it is one and not the function itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mdev: Option<Uuid>,
}

/// What a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Online CPUs.
    pub cpus: u32,
    /// Memory in bytes (`MemTotal`).
    pub memory: u64,
    /// Memory that could be had now (`MemAvailable`).
    pub memory_available: u64,
}

/// What went wrong with a launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "error")]
pub enum LaunchError {
    /// The VMM is not there or cannot be used.
    #[error("{reason}")]
    Unavailable {
        /// Why, and what to do.
        reason: String,
        /// How to install it.
        #[serde(default)]
        remedy: String,
    },
    /// A file of the machine's could not be made or removed.
    #[error("cannot {action} {path}: {reason}")]
    File {
        /// What was tried.
        action: String,
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The VMM ended or refused while starting.
    #[error("the machine did not start: {reason}")]
    Start {
        /// The VMM's words.
        reason: String,
    },
    /// The VMM did not do in time what was asked.
    #[error("the machine did not {action} within {seconds} s")]
    Deadline {
        /// What was asked.
        action: String,
        /// The deadline.
        seconds: u64,
    },
    /// The VMM, or the service that owns it, cannot be reached or watched, or said something unexpected.
    #[error("the machine's monitor: {reason}")]
    Monitor {
        /// What happened.
        reason: String,
    },
}
