//! The simulated host: the kernel behind a lock, with faults in front of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::boot_list::BootListEntry;
use model::{
    Address, BlockDevice, BlockUse, Capacity, HostError, HostLock, Lock, LockHolder, LocksBesides,
    MdevDefinition, NodeAccess, Step,
};
use model::{CpuLayout, HostKernel, HugePool};
use uuid::Uuid;

use crate::fault::Faults;
use crate::hardware::Hardware;
use crate::kernel::{FunctionState, Kernel, MdevState};
use crate::turns::Turns;

/// How long steps take.
type Delay = Arc<dyn Fn(&Step) -> Duration + Send + Sync>;

/// The directory of its block devices.
pub const BLOCKS: &str = "/dev/disk/by-id";

/// A host in memory.
pub struct SimHost {
    pub(crate) turns: Turns,
    delay: Mutex<Option<Delay>>,
    lock: Mutex<Arc<Mutex<Option<LockHolder>>>>,
    inside: Mutex<Inside>,
}

/// The state that a hand-over changes and must restore, for comparison before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Driver, override, power and settings of every function.
    pub functions: BTreeMap<Address, FunctionState>,
    /// The numbers of virtual functions.
    pub vf_counts: BTreeMap<Address, u16>,
    /// The mediated devices.
    pub mdevs: BTreeMap<Uuid, MdevState>,
    /// mdevctl's definitions.
    pub definitions: BTreeMap<Uuid, MdevDefinition>,
    /// The boot list.
    pub boot_list: BTreeMap<Address, BootListEntry>,
    /// The vfio group nodes of functions that exist at boot.
    pub nodes: BTreeMap<u32, NodeAccess>,
    /// Those of virtual functions, whose group numbers change each time they are created.
    pub vf_nodes: BTreeMap<Address, NodeAccess>,
    /// Those of mediated devices.
    pub mdev_nodes: BTreeMap<Uuid, NodeAccess>,
    /// The nodes of vfio devices.
    pub device_nodes: BTreeMap<Address, NodeAccess>,
    /// Units, and whether they are active.
    pub units: BTreeMap<String, bool>,
    /// Virtual consoles, framebuffers of the firmware and modules of the desktop's card: whether they are bound or loaded.
    pub drawn: BTreeMap<String, bool>,
}

pub(crate) struct Inside {
    pub(crate) kernel: Kernel,
    pub(crate) boot: Uuid,
    pub(crate) faults: Faults,
    /// Workers that are blocked in the kernel.
    pub(crate) stuck: Vec<Stuck>,
    pub(crate) holders_hidden: bool,
    /// Unplugged functions: a reboot does not restore them.
    pub(crate) pulled: BTreeSet<Address>,
    /// Functions that users put on the boot list.
    pub(crate) reserved: BTreeSet<Address>,
    /// Whether a tool that builds an initial ramdisk is installed.
    pub(crate) has_initramfs_tool: bool,
    pub(crate) capacity: Capacity,
    pub(crate) huge_pools: Vec<HugePool>,
    pub(crate) booted: Option<HostKernel>,
    pub(crate) cpu_layout: CpuLayout,
    /// The directory and the size of a small disk; `None` never becomes full.
    pub(crate) disk: Option<(PathBuf, u64)>,
    /// After how many changes of files the process dies, if it does.
    pub(crate) file_changes_left: Option<u32>,
    /// Whether the process has died so.
    pub(crate) has_died: bool,
    /// Its block devices, with what is on them.
    pub(crate) blocks: Vec<(BlockDevice, BlockUse)>,
    pub(crate) usb: Vec<model::UsbDevice>,
    /// The USB devices whose drivers were probed again.
    pub(crate) reattached: Vec<model::UsbDevice>,
    /// When the host was created, by both clocks.
    pub(crate) started: Instant,
    pub(crate) started_at: u64,
    /// How long the host was suspended, or by how much a test advanced the clocks.
    pub(crate) slept: Duration,
    /// By how many seconds the wall clock is wrong.
    pub(crate) clock_error: i64,
    pub(crate) performed: u64,
}

/// A worker that is blocked in the kernel.
pub(crate) struct Stuck {
    locks: BTreeSet<Lock>,
    step: Step,
    /// Whether the kernel waits for a user to exit, and then continues.
    waits: bool,
}

/// The lock on a simulated host, held until dropped.
struct Locked(Arc<Mutex<Option<LockHolder>>>);

impl HostLock for Locked {}

impl Drop for Locked {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl SimHost {
    /// A host with this hardware: 8 CPUs and 16 GiB.
    #[must_use]
    pub fn new(hardware: impl Into<Hardware>) -> Self {
        Self::seeded(hardware, 0)
    }

    /// The same; the seed determines what the kernel may choose freely.
    #[must_use]
    pub fn seeded(hardware: impl Into<Hardware>, seed: u64) -> Self {
        let memory = 16 << 30;
        let capacity = Capacity { cpus: 8, memory, memory_available: memory };
        let inside = Inside {
            kernel: Kernel::boot(hardware.into(), seed),
            boot: Uuid::new_v4(),
            faults: Faults::default(),
            stuck: Vec::new(),
            holders_hidden: false,
            pulled: BTreeSet::new(),
            reserved: BTreeSet::new(),
            has_initramfs_tool: true,
            capacity,
            huge_pools: Vec::new(),
            booted: None,
            cpu_layout: CpuLayout::default(),
            disk: None,
            file_changes_left: None,
            has_died: false,
            blocks: Vec::new(),
            usb: Vec::new(),
            reattached: Vec::new(),
            started: Instant::now(),
            started_at: 1_800_000_000,
            slept: Duration::ZERO,
            clock_error: 0,
            performed: 0,
        };
        Self {
            turns: Turns::default(),
            delay: Mutex::default(),
            lock: Mutex::default(),
            inside: Mutex::new(inside),
        }
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        // Every access sees what the kernel has completed meanwhile.
        inside.go_on(|stuck| stuck.waits);
        inside
    }

    /// The state that a hand-over must restore.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let kernel = &self.inside().kernel;
        let fixed = |group: &u32| kernel.hardware.inventory.groups.contains_key(group);
        let nodes = kernel.nodes.iter().filter(|(group, _)| fixed(group));
        let parents = kernel.vf_counts.keys();
        let virtual_functions = parents.flat_map(|parent| kernel.virtual_functions(*parent));
        let vf_node = |address| Some((address, *kernel.nodes.get(&kernel.group_of(address)?)?));
        let mdev_node = |uuid: &Uuid| Some((*uuid, kernel.mdev_node(*uuid)?));
        Snapshot {
            functions: kernel.functions.clone(),
            vf_counts: kernel.vf_counts.clone(),
            mdevs: kernel.mdevs.clone(),
            definitions: kernel.definitions.clone(),
            boot_list: kernel.boot_list.clone(),
            nodes: nodes.map(|(group, access)| (*group, *access)).collect(),
            vf_nodes: virtual_functions.filter_map(vf_node).collect(),
            mdev_nodes: kernel.mdevs.keys().filter_map(mdev_node).collect(),
            device_nodes: kernel.device_nodes.clone(),
            units: kernel.units.clone(),
            drawn: kernel.drawn(),
        }
    }

    /// The number of steps performed so far.
    #[must_use]
    pub fn performed(&self) -> u64 {
        self.inside().performed
    }

    /// Sets the duration of steps. Steps on different functions run in parallel.
    pub fn set_delay(&self, delay: impl Fn(&Step) -> Duration + Send + Sync + 'static) {
        *self.delay.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(delay));
    }

    /// Gives the host processors and memory, in place of those before.
    pub fn set_cpu_layout(&self, layout: CpuLayout) {
        self.inside().cpu_layout = layout;
    }

    /// Reserves huge pages, in place of those before.
    pub fn set_huge_pools(&self, pools: Vec<HugePool>) {
        self.inside().huge_pools = pools;
    }

    /// Installs the files of the running kernel.
    pub fn set_kernel(&self, kernel: HostKernel) {
        self.inside().booted = Some(kernel);
    }

    /// Takes the lock on the host, or returns its holder.
    pub(crate) fn take_lock(&self, holder: LockHolder) -> Result<Box<dyn HostLock>, LockHolder> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut taken = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = &*taken {
            return Err(other.clone());
        }
        *taken = Some(holder);
        drop(taken);
        Ok(Box::new(Locked(lock)))
    }

    /// Drops the host lock: no process survives a reboot.
    pub(crate) fn forget_lock(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    /// Waits for a step's duration without locking the host.
    pub(crate) fn take_time(&self, step: &Step) {
        let delay = self.delay.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let delay = delay.map(|delay| delay(step)).unwrap_or_default();
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

impl Inside {
    /// All locks that a step takes.
    pub(crate) fn locks(&self, step: &Step) -> BTreeSet<Lock> {
        let mut locks = BTreeSet::from([step.lock()]);
        locks.extend(step.locks_besides());
        let removed = |address| self.kernel.removed.contains(&address);
        if step.facts().locks_besides == LocksBesides::HostToRescan
            && step.address().is_some_and(removed)
        {
            locks.insert(Lock::Host);
        }
        locks
    }

    pub(crate) fn is_stuck(&self, lock: &Lock) -> bool {
        self.stuck.iter().any(|stuck| stuck.locks.contains(lock))
    }

    /// Whether no stuck worker holds any of these.
    pub(crate) fn expect_free<'a>(
        &self,
        step: &Step,
        locks: impl IntoIterator<Item = &'a Lock>,
    ) -> Result<(), HostError> {
        match locks.into_iter().find(|lock| self.is_stuck(lock)) {
            None => Ok(()),
            Some(lock) => {
                Err(HostError::Locked { step: step.describe(), lock: format!("{lock:?}") })
            }
        }
    }

    /// Whether attributes that take the device's lock can be read now.
    pub(crate) fn expect_readable(&self, what: &str, address: Address) -> Result<(), HostError> {
        if self.is_stuck(&Lock::Function(address)) {
            let step = format!("reading {what} of {address}");
            return Err(HostError::Deadline { step, seconds: 10 });
        }
        Ok(())
    }

    /// The worker does not return.
    pub(crate) fn hang(&mut self, step: &Step) -> HostError {
        self.stick(step, false)
    }

    /// The worker returns when the users that the kernel waits for are gone.
    pub(crate) fn wait_inside(&mut self, step: &Step) -> HostError {
        self.stick(step, true)
    }

    fn stick(&mut self, step: &Step, waits: bool) -> HostError {
        self.stuck.push(Stuck { locks: self.locks(step), step: step.clone(), waits });
        HostError::Deadline { step: step.describe(), seconds: step.deadline().as_secs() }
    }

    /// The workers of this kind return and their steps complete, except those that wait for users.
    pub(crate) fn go_on(&mut self, which: impl Fn(&Stuck) -> bool) {
        for mut stuck in std::mem::take(&mut self.stuck) {
            let waits = self.kernel.waits(&stuck.step);
            if waits || !which(&stuck) {
                stuck.waits |= waits && which(&stuck);
                self.stuck.push(stuck);
                continue;
            }
            // The result is no longer needed.
            let _ = self.kernel.perform(&stuck.step);
        }
    }
}
