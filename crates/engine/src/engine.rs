//! The engine's public handle, which opens the state and gives access to its parts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use model::catalog::Catalog;
use model::{Address, Availability, Host, Inventory, Launcher, Mac, OwnState, Refusal};

use crate::claims::Claims;
use crate::devices::Devices;
use crate::hardware::Hardware;
use crate::images::Images;
use crate::instances::Instances;
use crate::journal::{CompletesOperations, Journal};
use crate::lock::lock;
use crate::marks::Marks;
use crate::own_state;
use crate::recovery::{Order, Recovery};
use crate::refusals;
use crate::resources;
use crate::store::Store;
use crate::vf_counts::VfCounts;
use crate::volumes::Volumes;
use crate::{Config, Observer, Operation, RecoveryReport, RecoveryTask, Resources};

/// A handle to all state that must survive a crash. Cloning is cheap; its methods, and those of its parts, block.
///
/// Each part owns its tables of the store: no other part writes them.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<Parts>,
}

/// The parts, lower ones first: a part uses only those before it.
struct Parts {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    vf_counts: Arc<VfCounts>,
    claims: Arc<Claims>,
    devices: Arc<Devices>,
    images: Arc<Images>,
    volumes: Arc<Volumes>,
    instances: Arc<Instances>,
    recovery: Arc<Recovery>,
    config: Arc<Config>,
}

impl Parts {
    fn new(
        store: Arc<Store>,
        journal: Arc<Journal>,
        host: Arc<dyn Host>,
        launchers: Vec<Arc<dyn Launcher>>,
        config: Arc<Config>,
    ) -> Self {
        let hardware = Arc::new(Hardware::new(host));
        let marks = Arc::new(Marks::new(
            store.clone(),
            journal.clone(),
            hardware.clone(),
            &config.state_dir,
        ));
        let vf_counts = Arc::new(VfCounts::new(journal.clone(), hardware.clone(), marks.clone()));
        let claims = Arc::new(Claims::new(
            store.clone(),
            journal.clone(),
            hardware.clone(),
            marks.clone(),
            vf_counts.clone(),
        ));
        let devices = Arc::new(Devices::new(
            store.clone(),
            journal.clone(),
            hardware.clone(),
            marks,
            vf_counts.clone(),
            claims.clone(),
        ));
        let images =
            Images::new(store.clone(), journal.clone(), hardware.host.clone(), config.clone());
        let volumes = Volumes::new(&store, &journal, &images, hardware.host.clone(), &config);
        let instances = Instances::new(
            journal.clone(),
            hardware.clone(),
            claims.clone(),
            images.clone(),
            volumes.clone(),
            launchers,
            config.clone(),
        );
        let recovery = Arc::new(Recovery::new(
            hardware.clone(),
            vf_counts.clone(),
            claims.clone(),
            devices.clone(),
            images.clone(),
            instances.clone(),
            journal.clone(),
        ));
        Self {
            store,
            journal,
            hardware,
            vf_counts,
            claims,
            devices,
            images,
            volumes,
            instances,
            recovery,
            config,
        }
    }
}

/// A weak reference to an engine, for observers, which the engine itself holds.
#[derive(Clone)]
pub struct WeakEngine {
    parts: Weak<Parts>,
}

impl WeakEngine {
    /// The engine, if it still exists.
    #[must_use]
    pub fn upgrade(&self) -> Option<Engine> {
        self.parts.upgrade().map(|parts| Engine { parts })
    }
}

/// Every method, also of the parts, refuses with `state_unusable` if the store fails, besides the errors that it names.
impl Engine {
    /// Opens the state directory, or creates it.
    ///
    /// # Errors
    /// `state_unusable` if the state is damaged or of a newer version; `state_locked` if another process has locked the
    /// host or the state.
    pub fn open(
        config: Config,
        host: Arc<dyn Host>,
        launchers: Vec<Arc<dyn Launcher>>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Refusal> {
        // Before the store: another Handover on this host can have its state elsewhere.
        let host_lock =
            host.lock_host(&config.state_dir).map_err(|error| refusals::host_not_locked(&error))?;
        let store = Arc::new(Store::open(&config.state_dir)?);
        for dir in config.image_dirs.iter().chain(&config.block_dirs) {
            if !dir.is_dir() {
                tracing::warn!("{} is no directory: nothing can be taken from it", dir.display());
            }
        }
        let config = Arc::new(config);
        let journal =
            Arc::new(Journal::new(store.clone(), host.clone(), observer, &config, host_lock)?);
        let parts = Parts::new(store, journal, host, launchers, config);
        let completer: Weak<dyn CompletesOperations> = Arc::downgrade(&parts.recovery) as _;
        parts.journal.set_completer(completer);
        Ok(Self { parts: Arc::new(parts) })
    }

    /// A handle that does not keep the engine alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakEngine {
        WeakEngine { parts: Arc::downgrade(&self.parts) }
    }

    /// Claims: reserve, prepare, unprepare, release.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.parts.claims
    }

    /// What this store says of the host's devices, for listings and checks.
    ///
    /// # Errors
    /// None of its own.
    pub fn own_state(&self) -> Result<OwnState, Refusal> {
        self.parts.store.read(own_state::read)
    }

    /// Registered devices, and the return of unclaimed ones.
    #[must_use]
    pub fn devices(&self) -> &Devices {
        &self.parts.devices
    }

    /// Configured numbers of virtual functions.
    #[must_use]
    pub fn vf_counts(&self) -> &VfCounts {
        &self.parts.vf_counts
    }

    /// Images.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.parts.images
    }

    /// Volumes.
    #[must_use]
    pub fn volumes(&self) -> &Volumes {
        &self.parts.volumes
    }

    /// Instances.
    #[must_use]
    pub fn instances(&self) -> &Instances {
        &self.parts.instances
    }

    /// Finishes or rolls back what an earlier daemon left open, and finds its machines. Call it once, before anything is
    /// changed. Operations that touch different devices are recovered in parallel.
    ///
    /// # Errors
    /// If the store or the host cannot be read. What cannot be rolled back is in the report.
    pub fn recover(&self) -> Result<RecoveryReport, Refusal> {
        self.parts.recovery.recover(self.parts.recovery.parallel())
    }

    /// The same in this thread, one independent part after another: `pick` chooses the next one of so many. Simulations
    /// use it to be deterministic.
    ///
    /// # Errors
    /// As [`recover`](Self::recover).
    pub fn recover_one_by_one(
        &self,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Result<RecoveryReport, Refusal> {
        self.parts.recovery.recover(Order::OneByOne(pick))
    }

    /// What a running [`recover`](Self::recover) still has to do, and what it waits for.
    #[must_use]
    pub fn recovering(&self) -> Vec<RecoveryTask> {
        self.parts.recovery.unfinished()
    }

    /// Compares claims and machines with the host. Fixes what it can; the rest is in the report.
    ///
    /// # Errors
    /// If the store or the host cannot be read.
    pub fn reconcile(&self) -> Result<RecoveryReport, Refusal> {
        self.parts.recovery.reconcile()
    }

    /// The report of the last [`recover`](Self::recover) or [`reconcile`](Self::reconcile); `None` before the first.
    #[must_use]
    pub fn last_report(&self) -> Option<RecoveryReport> {
        self.parts.recovery.last_report()
    }

    /// Ends the operations that were left open while the journal could not be written, then quarantines functions of
    /// prepared claims that no longer answer. Returns these functions, each with the reason.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn check_claims(&self) -> Result<Vec<(Address, String)>, Refusal> {
        self.parts.recovery.check_claims()
    }

    /// Cancels all claims that are being prepared and all volumes that are being made, for shutdown; their changes are rolled back.
    pub fn cancel_all(&self) {
        self.parts.volumes.cancel_all();
        self.parts.journal.turns.cancel_all();
    }

    /// Limits how long recovery waits for workers of a dead daemon: 90 s by default, for all devices of an
    /// operation together.
    pub fn limit_patience(&self, most: Duration) {
        *lock(&self.parts.journal.patience) = most;
    }

    /// Limits how long a running operation retries writes to the journal before it is rolled back:
    /// [`Config::journal_timeout`] by default. Other writes are retried for at most 5 s.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn limit_journal_patience(&self, most: Duration) -> Result<(), Refusal> {
        self.parts.journal.limit_journal_patience(most)
    }

    /// Limits how many parts of a claim are prepared in parallel (16 by default), and how many independent operations are
    /// recovered in parallel (64 by default). With 1, all steps run in the plan's order.
    pub fn limit_at_once(&self, most: usize) {
        self.parts.claims.limit_at_once(most);
        self.parts.recovery.limit_at_once(most);
    }

    /// The latest `limit` operations with their steps, latest first.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn journal(&self, limit: u32) -> Result<Vec<Operation>, Refusal> {
        self.parts.store.read(|from| Operation::latest(from, limit))
    }

    /// The host's resources, and what of them is allocated.
    ///
    /// # Errors
    /// If the host cannot be read.
    pub fn resources(&self) -> Result<Resources, Refusal> {
        let parts = &self.parts;
        resources::resources(&parts.store, &parts.hardware, &parts.devices, &parts.config)
    }

    /// Takes a devices file, whose resources requests can name from now on. What is claimed stays so.
    pub fn set_catalog(&self, catalog: Catalog) {
        self.parts.claims.set_catalog(catalog);
    }

    /// A snapshot of the host's hardware.
    ///
    /// # Errors
    /// If the host cannot be read.
    pub fn inventory(&self) -> Result<Inventory, Refusal> {
        self.parts.hardware.inventory()
    }

    /// A snapshot of these functions only.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn functions(&self, addresses: &[Address]) -> Result<Inventory, Refusal> {
        self.parts.hardware.functions(addresses)
    }

    /// The addresses of the machines in the host's networks that it has talked to, by hardware address.
    #[must_use]
    pub fn neighbors(&self) -> BTreeMap<Mac, IpAddr> {
        self.parts.hardware.host.neighbors()
    }

    /// The host's own addresses.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        self.parts.hardware.host.own_addresses()
    }

    /// The launchers, each with its availability on this host.
    #[must_use]
    pub fn hypervisors(&self) -> Vec<(&'static str, Availability)> {
        self.parts.instances.hypervisors()
    }
}
