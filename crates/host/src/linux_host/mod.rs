//! The real host: [`model::Host`] on Linux.

mod detail;
mod fabric;
mod modes;
mod scan;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::{
    Address, AsFound, BlockDevice, BlockError, BlockUse, Capacity, Checked, CpuLayout, Disk,
    FabricSets, Holder, Host, HostDisplay, HostError, HostKernel, HostLock, HostLockError,
    HugePool, Inventory, Kind, LinkBaseline, Lock, Mac, Mark, MdevDefinition, Moment, NodeAccess,
    Observed, Step, UsbDevice, VfSettings,
};
use rustix::fd::OwnedFd;
use rustix::time::ClockId;

use crate::device_lock::{Locks, Turn, lock_name};
use crate::holders::Groups;
use crate::inventory::{self, Catalogs, Scope};
use crate::root::{Root, Trace};
use crate::worker_pool::{
    Answer, Failure, Job, Missed, PoolConfig, Request, WorkerCommand, WorkerPool,
};
use crate::{
    as_found, block, boot_list, capacity, cpu_layout, disk, health, holders, host_display,
    host_lock, huge_pools, kernel_files, mdevctl, neighbors, platform, problem, step, usb,
};
use detail::Depth;

const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

/// How long a child process that is being started may keep a lock open.
const STARTING: Duration = Duration::from_secs(1);

/// How long a read may wait for the lock of a device.
const READING: Duration = Duration::from_secs(10);

/// How long steps that need more than one lock may wait for other steps of this process, before their own deadline
/// begins: 30 s and more were measured for the virtual functions of one GPU, on hosts with eight.
const QUEUE: Duration = Duration::from_secs(600);

/// The largest number of functions in one search for holders: each then fits into one answer, at least once.
const TOGETHER: usize = 128;

/// How a host is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The directory with `sys`, `proc` and `dev`; `/`.
    pub root: PathBuf,
    /// The lock files are in `locks/` below it; a directory of root's that is empty after a boot, such as
    /// `/run/handover`.
    pub run_dir: PathBuf,
    /// How workers are started and how many are kept.
    pub workers: PoolConfig,
    /// An upper limit for the deadlines of steps, for tests.
    pub longest_step: Option<Duration>,
}

impl HostConfig {
    /// The running system, with this executable as the worker.
    #[must_use]
    pub fn this_host(run_dir: PathBuf) -> Self {
        let workers = PoolConfig::new(WorkerCommand::this_executable());
        Self { root: "/".into(), run_dir, workers, longest_step: None }
    }
}

/// A Linux host: the running system, or a recording.
#[derive(Debug)]
pub struct LinuxHost {
    root: Root,
    catalogs: Catalogs,
    working: Option<Working>,
}

/// What a host needs for changes.
#[derive(Debug)]
struct Working {
    locks: Locks,
    pool: WorkerPool,
    longest_step: Option<Duration>,
}

impl LinuxHost {
    /// A host that worker processes can change; the spare workers are started now.
    ///
    /// # Errors
    /// If the root cannot be opened or no worker can be started.
    pub fn new(config: HostConfig) -> std::io::Result<Self> {
        let root = Root::open(&config.root)?;
        let pool = WorkerPool::new(config.workers);
        pool.warm()?;
        let locks = Locks::new(config.run_dir.join("locks"));
        let working = Working { locks, pool, longest_step: config.longest_step };
        Ok(Self { root, catalogs: Catalogs::default(), working: Some(working) })
    }

    /// A read-only host, without workers: everything is read in this process, without a deadline.
    ///
    /// # Errors
    /// If the root cannot be opened.
    pub fn reader(root: &Path) -> std::io::Result<Self> {
        let root = Root::open(root)?;
        Ok(Self { root, catalogs: Catalogs::default(), working: None })
    }

    /// The same host; if it has no file of names, names are taken from another root, such as this machine's.
    ///
    /// # Errors
    /// If that root cannot be opened.
    pub fn with_names_of(self, root: &Path) -> std::io::Result<Self> {
        self.catalogs.names_or_from(Root::open(root)?);
        Ok(self)
    }

    /// A read-only host in a recording, read from an archive.
    ///
    /// # Errors
    /// If it is not a valid recording.
    pub fn recording(archive: impl std::io::Read) -> std::io::Result<Self> {
        let root = Root::recording(archive)?;
        Ok(Self { root, catalogs: Catalogs::default(), working: None })
    }

    /// A read-only host in this process, which records what is read.
    pub(crate) fn recorder(root: &Path) -> std::io::Result<(Self, Arc<Trace>)> {
        let (root, trace) = Root::open(root)?.traced()?;
        Ok((Self { root, catalogs: Catalogs::default(), working: None }, trace))
    }

    /// What a list of devices shows, and the users of the devices, read in parallel in this process: only what
    /// assemblies and their state need ([`Scope::Rows`]). Without the right to read other processes there are no
    /// holders.
    ///
    /// # Errors
    /// If the list of functions cannot be read.
    pub fn overview(&self) -> Result<(Inventory, Vec<Holder>), HostError> {
        let (inventory, uses) = std::thread::scope(|scope| {
            let uses = scope.spawn(|| holders::Uses::read(&self.root));
            let inventory = inventory::read(&self.root, &self.catalogs, Scope::Rows);
            (inventory, uses.join())
        });
        let mut inventory = inventory?;
        self.examine_idle(&mut inventory);
        let Ok(Ok(uses)) = uses else { return Ok((inventory, Vec::new())) };
        let nics = inventory.functions.values().filter(|function| function.kind() == Kind::Nic);
        let nics: Vec<Address> = nics.map(|function| function.address).collect();
        let holders = uses.holders(&self.root, &Groups::of_all(&inventory), &nics);
        Ok((inventory, holders))
    }

    /// The inventory at listing depth, with what decides whether a device can be handed over: what is on a vfio driver
    /// responds, and virtual functions that can become vGPUs are vGPUs.
    ///
    /// # Errors
    /// If the list of functions cannot be read.
    pub fn listing(&self) -> Result<Inventory, HostError> {
        let mut inventory = inventory::read(&self.root, &self.catalogs, Scope::Listing)?;
        self.examine_idle(&mut inventory);
        Ok(inventory)
    }

    /// The inventory with detail of all functions, or only of these. On the running system workers read the detail,
    /// with a deadline: a function whose driver hangs gets a note, and does not delay the others. Suspended functions
    /// are not woken.
    ///
    /// # Errors
    /// If the list of functions cannot be read.
    pub fn detail(&self, only: Option<&[Address]>) -> Result<Inventory, HostError> {
        let mut inventory = inventory::read(&self.root, &self.catalogs, Scope::Listing)?;
        let all = || inventory.functions.keys().copied().collect();
        let wanted: Vec<Address> = only.map_or_else(all, <[Address]>::to_vec);
        self.add_detail(&mut inventory, &wanted, Depth::All);
        if only.is_some() {
            self.add_modes(&mut inventory, &wanted);
        }
        Ok(inventory)
    }

    /// Adds detail of what is on a vfio driver. No other driver would tell that such a function does not respond any more,
    /// which happens to cards after their first machine. Of possible vGPUs it adds what they are.
    fn examine_idle(&self, inventory: &mut Inventory) {
        let idle = inventory.functions.values().filter(|function| function.on_vfio());
        let idle: Vec<Address> = idle.map(|function| function.address).collect();
        if !idle.is_empty() {
            inventory::add_power(&self.root, inventory, &idle);
            self.add_detail(inventory, &idle, Depth::All);
        }
        self.examine_driven(inventory);
        // Virtual functions with vGPU types, whatever their class: whether they are vGPUs, or can become one.
        let parts = inventory.functions.values().filter(|function| {
            let own = function.driver.is_some() && !function.on_vfio();
            own && function.physical_function.is_some()
                && detail::has_vgpu_types(&self.root, function.address)
        });
        let parts: Vec<Address> = parts.map(|function| function.address).collect();
        if !parts.is_empty() {
            self.add_detail(inventory, &parts, Depth::Partitions);
        }
    }

    /// Adds of GPUs and accelerators on another driver or on none whether they respond: a driver does not tell, and they are
    /// what falls off the bus. Only their header is read, and suspended ones are not woken.
    fn examine_driven(&self, inventory: &mut Inventory) {
        let cards = inventory.functions.values().filter(|function| {
            let gpu = matches!(function.kind(), Kind::Gpu | Kind::Accelerator);
            gpu && !function.on_vfio() && function.physical_function.is_none()
        });
        let cards: Vec<Address> = cards.map(|function| function.address).collect();
        if !cards.is_empty() {
            inventory::add_power(&self.root, inventory, &cards);
            self.add_detail(inventory, &cards, Depth::Answer);
        }
    }

    fn add_detail(&self, inventory: &mut Inventory, wanted: &[Address], depth: Depth) {
        let own;
        let reader = match &self.working {
            Some(working) => detail::Reader::Workers {
                pool: &working.pool,
                root: self.root.path(),
                locks: Some(&working.locks),
            },
            None if self.root.is_host() && !self.root.is_traced() => {
                own = WorkerPool::new(PoolConfig::new(WorkerCommand::this_executable()));
                detail::Reader::Workers { pool: &own, root: self.root.path(), locks: None }
            }
            None => detail::Reader::Here(&self.root),
        };
        detail::complete(inventory, wanted, depth, reader, &self.root, &self.catalogs);
    }

    /// The root of everything that is read.
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// The host around its devices: what the doctor checks besides the inventory.
    #[must_use]
    pub fn platform(&self) -> model::doctor::Platform {
        platform::read(&self.root)
    }

    /// Workers that missed a deadline and have not answered since.
    #[must_use]
    pub fn missed(&self) -> Vec<Missed> {
        self.working.as_ref().map(|working| working.pool.missed()).unwrap_or_default()
    }

    /// Sends an empty job to a worker, to measure the overhead.
    ///
    /// # Errors
    /// If there is no worker or it fails.
    pub fn round_trip(&self) -> Result<(), HostError> {
        let working = self.working(&Job::Nothing)?;
        working.pool.round_trip().map_err(|failure| HostError::Worker {
            step: Job::Nothing.describe(),
            reason: failure.to_string(),
        })
    }

    fn working(&self, job: &Job) -> Result<&Working, HostError> {
        self.working.as_ref().ok_or_else(|| HostError::Worker {
            step: job.describe(),
            reason: format!("{} is opened read-only", self.root.path().display()),
        })
    }

    /// Sends a job to a worker, with the lock that it needs.
    fn call(
        &self,
        job: Job,
        lock: Option<OwnedFd>,
        patience: Duration,
    ) -> Result<Answer, HostError> {
        let working = self.working(&job)?;
        let step = job.describe();
        let locks = working.locks.dir().to_owned();
        let request = Request { root: self.root.path().to_owned(), locks, job };
        match working.pool.call(&request, lock, patience) {
            Ok(outcome) => outcome,
            Err(Failure::Deadline { .. }) => {
                Err(HostError::Deadline { step, seconds: patience.as_secs() })
            }
            Err(Failure::Died(reason)) => Err(HostError::Worker { step, reason }),
        }
    }

    /// Reads under the function's lock, in a worker, so never while a step is in progress on the function.
    fn read_locked(&self, job: Job, address: Address) -> Result<Answer, HostError> {
        let working = self.working(&job)?;
        let lock = Lock::Function(address);
        let (_turns, lock) = working.lock(&job, &lock, &[], READING)?;
        self.call(job, Some(lock), READING)
    }
}

impl Working {
    /// Waits for this process's other work under a lock, and under the locks that the worker takes itself (`besides`);
    /// then takes the lock. An error if another process has it.
    fn lock(
        &self,
        job: &Job,
        lock: &Lock,
        besides: &[Lock],
        patience: Duration,
    ) -> Result<(Vec<Turn<'_>>, OwnedFd), HostError> {
        let locked =
            |lock: &Lock| HostError::Locked { step: job.describe(), lock: lock_name(lock) };
        // One order for all, against deadlocks.
        let mut all: Vec<&Lock> = besides.iter().chain([lock]).collect();
        all.sort_by_key(|one| (**one != Lock::Host, *one));
        all.dedup();
        let turn = |one: &Lock| {
            let patience = if besides.contains(one) { patience.max(QUEUE) } else { patience };
            self.locks.turn(one, patience).ok_or_else(|| locked(one))
        };
        let turns = all.into_iter().map(turn).collect::<Result<Vec<_>, _>>()?;
        // A child process that another thread starts has all open files, this lock too, until it executes its program.
        // A worker may hold the host's lock for long, for instance while it creates virtual functions.
        let passing = if *lock == Lock::Host { patience } else { STARTING };
        let file = self.locks.wait_for(lock, passing).map_err(|error| HostError::Worker {
            step: job.describe(),
            reason: format!("cannot lock a file in {}: {error}", self.locks.dir().display()),
        })?;
        Ok((turns, file.ok_or_else(|| locked(lock))?))
    }
}

impl Disk for LinuxHost {
    fn free_space(&self, dir: &Path) -> Result<u64, HostError> {
        disk::free_space(dir)
    }

    fn write_out(&self, dir: &Path) {
        disk::write_out(dir);
    }
}

/// The lock on a recorded host or a tree of files: a reader changes nothing, so it excludes no one.
struct NothingToLock;

impl HostLock for NothingToLock {}

impl Host for LinuxHost {
    fn lock_host(&self, state_dir: &Path) -> Result<Box<dyn HostLock>, HostLockError> {
        // Without workers nothing can be changed: no other process has to be kept out.
        if self.working.is_none() && !self.root.is_host() {
            return Ok(Box::new(NothingToLock));
        }
        host_lock::take(&self.root, state_dir)
    }

    fn boot_id(&self) -> Result<String, HostError> {
        if self.working.is_none() && !self.root.exists(BOOT_ID) {
            // A recording has no boots.
            return Ok("recorded".into());
        }
        self.root.text(BOOT_ID).map_err(|errno| problem::file(&self.root, "read", BOOT_ID, errno))
    }

    fn inventory(&self) -> Result<Inventory, HostError> {
        inventory::read(&self.root, &self.catalogs, Scope::Listing)
    }

    fn sketch(&self) -> Result<Inventory, HostError> {
        inventory::read(&self.root, &self.catalogs, Scope::Choosing)
    }

    fn functions(&self, addresses: &[Address]) -> Result<Inventory, HostError> {
        Ok(inventory::read_some(&self.root, &self.catalogs, addresses))
    }

    fn complete(&self, inventory: &mut Inventory, addresses: &[Address]) {
        // A sketch has no power state.
        inventory::add_power(&self.root, inventory, addresses);
        self.add_detail(inventory, addresses, Depth::All);
        self.add_modes(inventory, addresses);
    }

    fn answers(&self, inventory: &mut Inventory, addresses: &[Address]) {
        inventory::add_power(&self.root, inventory, addresses);
        self.add_detail(inventory, addresses, Depth::Answer);
    }

    fn offers(&self, inventory: &mut Inventory, addresses: &[Address]) {
        self.add_detail(inventory, addresses, Depth::Partitions);
    }

    fn now(&self) -> Moment {
        let seconds = |clock| rustix::time::clock_gettime(clock);
        let (unix, uptime) = (seconds(ClockId::Realtime), seconds(ClockId::Boottime));
        Moment {
            unix: u64::try_from(unix.tv_sec).unwrap_or_default(),
            uptime: Duration::new(
                u64::try_from(uptime.tv_sec).unwrap_or_default(),
                u32::try_from(uptime.tv_nsec).unwrap_or_default(),
            ),
        }
    }

    fn vf_settings(&self, parent: Address, index: u16) -> Result<VfSettings, HostError> {
        if self.working.is_none() {
            // Nothing can be changed on it, so what an undo would restore is not needed; a recording does not have it.
            if !self.root.is_host() {
                return Ok(VfSettings::default());
            }
            return step::vf_settings(&self.root, parent, index);
        }
        let job = Job::ReadVf { parent, index };
        match self.read_locked(job.clone(), parent)? {
            Answer::Vf(settings) => Ok(settings),
            other => Err(unexpected(&job, &other)),
        }
    }

    fn mdev_definitions(&self) -> Vec<MdevDefinition> {
        mdevctl::definitions(&self.root)
    }

    fn boot_list(&self) -> Vec<Address> {
        let list = boot_list::list(&self.root).unwrap_or_else(|error| {
            tracing::warn!("cannot read the boot list: {error}");
            String::new()
        });
        model::boot_list::entries(&list).into_iter().map(|entry| entry.address).collect()
    }

    fn applies_boot_list(&self) -> bool {
        !model::boot_list::files(platform::initramfs(&self.root)).is_empty()
    }

    fn as_found(&self, addresses: &[Address]) -> Result<Vec<AsFound>, HostError> {
        let read = |address: Address| {
            if self.working.is_none() {
                return as_found::read(&self.root, address);
            }
            match self.read_locked(Job::Recall(address), address)? {
                Answer::Found(found) => Ok(found),
                other => Err(unexpected(&Job::Recall(address), &other)),
            }
        };
        addresses.iter().copied().map(read).collect()
    }

    fn group_nodes(&self, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError> {
        step::nodes(&self.root, groups)
    }

    fn marks(&self, addresses: &[Address]) -> Result<BTreeMap<Address, Mark>, HostError> {
        step::marks(&self.root, addresses)
    }

    fn holders(&self, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
        if self.working.is_none() {
            return holders::find(&self.root, addresses);
        }
        // In a worker: reading the mappings of a process can wait for as long as that process is inside the kernel.
        let mut found = Vec::new();
        for some in addresses.chunks(TOGETHER) {
            let job = Job::FindHolders(some.to_vec());
            match self.call(job.clone(), None, READING)? {
                Answer::Holders(holders) => found.extend(holders),
                other => return Err(unexpected(&job, &other)),
            }
        }
        Ok(found)
    }

    fn display(&self, addresses: &[Address]) -> Result<HostDisplay, HostError> {
        Ok(host_display::read(&self.root, addresses))
    }

    fn fabric_sets(&self) -> Result<Option<FabricSets>, HostError> {
        self.read_fabric()
    }

    fn check(&self, address: Address, link: Option<LinkBaseline>) -> Result<Checked, HostError> {
        if self.working.is_none() {
            return health::check(&self.root, address, link);
        }
        let job = Job::Check { address, link };
        match self.read_locked(job.clone(), address)? {
            Answer::Checked(checked) => Ok(checked),
            other => Err(unexpected(&job, &other)),
        }
    }

    fn observe(&self, step: &Step) -> Result<Observed, HostError> {
        let Some(address) = step.address() else { return step::observe(&self.root, step) };
        if self.working.is_none() || !step.facts().observing_can_block {
            return step::observe(&self.root, step);
        }
        let job = Job::Observe(step.clone());
        match self.read_locked(job.clone(), address)? {
            Answer::Observed(observed) => Ok(observed),
            other => Err(unexpected(&job, &other)),
        }
    }

    fn perform(&self, step: &Step) -> Result<(), HostError> {
        let job = Job::Perform(step.clone());
        let working = self.working(&job)?;
        let own = step.deadline();
        let patience = working.longest_step.map_or(own, |longest| longest.min(own));
        // A loaded module needs no lock: the host's lock can be held for minutes.
        if let Step::LoadModule { module } = step
            && step::is_loaded(&self.root, module)
        {
            return Ok(());
        }
        let (_turns, lock) = working.lock(&job, &step.lock(), &step.locks_besides(), patience)?;
        // Under the lock the observation is valid: a step that is done already needs no worker.
        if !step.facts().observing_can_block && step::observe(&self.root, step)? == Observed::After
        {
            return Ok(());
        }
        self.call(job, Some(lock), patience).map(drop)
    }

    fn is_locked(&self, lock: &Lock) -> Result<bool, HostError> {
        let Some(working) = &self.working else { return Ok(false) };
        working.locks.is_locked(lock).map_err(|error| HostError::File {
            action: "check".into(),
            path: format!("{}/{}.lock", working.locks.dir().display(), lock_name(lock)),
            reason: error.to_string(),
            errno: error.raw_os_error(),
        })
    }

    fn neighbors(&self) -> BTreeMap<Mac, IpAddr> {
        neighbors::read(&self.root)
    }

    fn cpu_layout(&self) -> CpuLayout {
        cpu_layout::read(&self.root)
    }

    fn own_addresses(&self) -> Vec<IpAddr> {
        neighbors::own(&self.root)
    }

    fn usb_devices(&self) -> Vec<UsbDevice> {
        usb::devices(&self.root)
    }

    fn reattach_usb(&self, device: &UsbDevice) {
        usb::reattach(&self.root, device);
    }

    fn huge_pools(&self) -> Vec<HugePool> {
        huge_pools::read(&self.root)
    }

    fn block_device(&self, allowed: &[PathBuf], name: &str) -> Result<BlockDevice, BlockError> {
        block::find(&self.root, allowed, name)
    }

    fn block_use(&self, device: &BlockDevice) -> Result<BlockUse, HostError> {
        if self.working.is_none() {
            return block::examine(&self.root, device);
        }
        let job = Job::ExamineBlock(device.clone());
        match self.call(job.clone(), None, READING)? {
            Answer::Block(found) => Ok(found),
            other => Err(unexpected(&job, &other)),
        }
    }

    fn kernel(&self) -> Option<HostKernel> {
        kernel_files::running(&self.root)
    }

    fn kernel_modules(&self, version: &str) -> Option<PathBuf> {
        kernel_files::modules(&self.root, version)
    }

    fn capacity(&self) -> Result<Capacity, HostError> {
        capacity::read(&self.root)
    }
}

/// The error for an answer that does not fit the job.
fn unexpected(job: &Job, answer: &Answer) -> HostError {
    HostError::Worker { step: job.describe(), reason: format!("unexpected answer {answer:?}") }
}
