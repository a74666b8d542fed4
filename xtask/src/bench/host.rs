//! The simulated host with real workers, and a clock that splits a claim's time by part.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use engine::{JournalEvent, Observer};
use host::worker_pool::{PoolConfig, WorkerCommand, WorkerPool};
use model::{
    Address, AsFound, Capacity, Checked, Disk, Holder, Host, HostError, HostLock, HostLockError,
    Inventory, LinkBaseline, Lock, Mark, Moment, NodeAccess, Observed, Step, VfSettings,
};
use sim::SimHost;

/// Splits the time of one thread: each part ends with a mark.
#[derive(Debug)]
pub(super) struct Clock(Mutex<(Instant, Spent)>);

/// The time spent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Recording steps and operations, including disk syncs.
    pub(super) journal: Duration,
    /// Sending jobs to workers and receiving results.
    pub(super) worker: Duration,
    /// Choosing, planning, comparing.
    pub(super) checks: Duration,
    /// The simulated kernel, which is not counted.
    pub(super) kernel: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), Spent::default())))
    }
}

impl Clock {
    /// The time spent since the last call.
    pub(super) fn take(&self) -> Spent {
        self.mark(|spent| &mut spent.checks);
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Adds the time since the last mark to this part.
    fn mark(&self, on: impl FnOnce(&mut Spent) -> &mut Duration) {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = now.duration_since(inside.0);
        inside.0 = now;
        *on(&mut inside.1) += since;
    }
}

impl Observer for Clock {
    fn reached(&self, event: &JournalEvent) {
        match event {
            JournalEvent::Performed { .. } => self.mark(|spent| &mut spent.checks),
            _ => self.mark(|spent| &mut spent.journal),
        }
    }
}

/// The simulated host, with a round trip to a worker process for every step.
pub(super) struct WithWorkers {
    sim: Arc<SimHost>,
    pool: WorkerPool,
    clock: Arc<Clock>,
}

impl WithWorkers {
    pub(super) fn new(sim: Arc<SimHost>) -> Result<Self> {
        let pool = WorkerPool::new(PoolConfig::new(WorkerCommand::this_executable()));
        pool.warm()?;
        Ok(Self { sim, pool, clock: Arc::default() })
    }

    /// Records the time spent, by part.
    pub(super) fn clock(&self) -> Arc<Clock> {
        self.clock.clone()
    }

    fn trip(&self) -> Result<(), HostError> {
        self.clock.mark(|spent| &mut spent.checks);
        let done = self.pool.round_trip();
        self.clock.mark(|spent| &mut spent.worker);
        done.map_err(|failure| HostError::Worker {
            step: "a round trip".into(),
            reason: failure.to_string(),
        })
    }

    /// Calls the simulated kernel.
    fn kernel<T>(&self, ask: impl FnOnce(&SimHost) -> T) -> T {
        self.clock.mark(|spent| &mut spent.checks);
        let answer = ask(&self.sim);
        self.clock.mark(|spent| &mut spent.kernel);
        answer
    }
}

impl Disk for WithWorkers {
    fn free_space(&self, dir: &Path) -> Result<u64, HostError> {
        self.sim.free_space(dir)
    }

    fn write_out(&self, dir: &Path) {
        self.sim.write_out(dir);
    }
}

impl Host for WithWorkers {
    fn lock_host(&self, state_dir: &Path) -> Result<Box<dyn HostLock>, HostLockError> {
        self.sim.lock_host(state_dir)
    }

    fn boot_id(&self) -> Result<String, HostError> {
        self.kernel(|sim| sim.boot_id())
    }

    fn now(&self) -> Moment {
        self.sim.now()
    }

    fn inventory(&self) -> Result<Inventory, HostError> {
        self.kernel(|sim| sim.inventory())
    }

    fn as_found(&self, addresses: &[Address]) -> Result<Vec<AsFound>, HostError> {
        addresses.iter().try_for_each(|_| self.trip())?;
        self.kernel(|sim| sim.as_found(addresses))
    }

    fn complete(&self, inventory: &mut Inventory, addresses: &[Address]) {
        // If a worker fails, the next step reports it.
        let _ = self.trip();
        self.kernel(|sim| sim.complete(inventory, addresses));
    }

    fn answers(&self, inventory: &mut Inventory, addresses: &[Address]) {
        let _ = self.trip();
        self.kernel(|sim| sim.answers(inventory, addresses));
    }

    fn vf_settings(&self, parent: Address, index: u16) -> Result<VfSettings, HostError> {
        self.trip()?;
        self.kernel(|sim| sim.vf_settings(parent, index))
    }

    fn check(&self, address: Address, link: Option<LinkBaseline>) -> Result<Checked, HostError> {
        self.trip()?;
        self.kernel(|sim| sim.check(address, link))
    }

    fn group_nodes(&self, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError> {
        self.kernel(|sim| sim.group_nodes(groups))
    }

    fn marks(&self, addresses: &[Address]) -> Result<BTreeMap<Address, Mark>, HostError> {
        self.kernel(|sim| sim.marks(addresses))
    }

    fn holders(&self, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
        self.kernel(|sim| sim.holders(addresses))
    }

    fn observe(&self, step: &Step) -> Result<Observed, HostError> {
        if matches!(step, Step::SetOverride { .. }) {
            self.trip()?;
        }
        self.kernel(|sim| sim.observe(step))
    }

    fn perform(&self, step: &Step) -> Result<(), HostError> {
        self.trip()?;
        self.kernel(|sim| sim.perform(step))
    }

    fn is_locked(&self, lock: &Lock) -> Result<bool, HostError> {
        self.kernel(|sim| sim.is_locked(lock))
    }

    fn capacity(&self) -> Result<Capacity, HostError> {
        self.kernel(|sim| sim.capacity())
    }
}
