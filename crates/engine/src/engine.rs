//! The engine as the faces see it: a front door to its parts.

use std::sync::{Arc, Weak};
use std::time::Duration;

use model::{Address, Availability, Host, Inventory, Launcher, Refusal};

use crate::claims::Claims;
use crate::devices::Devices;
use crate::hardware::Hardware;
use crate::images::Images;
use crate::instances::Instances;
use crate::journal::{CompletesOperations, Journal};
use crate::lock::lock;
use crate::marks::Marks;
use crate::recovery::Recovery;
use crate::refusals;
use crate::resources;
use crate::store::Store;
use crate::vf_counts::VfCounts;
use crate::{Config, Observer, Operation, RecoveryReport, Resources};

/// All that must survive a crash, behind one handle. Cloning it is cheap; its methods, and those of its parts, block.
///
/// Each part owns its tables of the store: no other part writes them.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<Parts>,
}

/// The parts, the lower ones first: none knows those after it.
struct Parts {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    vf_counts: Arc<VfCounts>,
    claims: Arc<Claims>,
    devices: Arc<Devices>,
    images: Arc<Images>,
    instances: Arc<Instances>,
    recovery: Arc<Recovery>,
    config: Arc<Config>,
}

/// An engine that is not kept alive: for observers, which the engine itself holds.
#[derive(Clone)]
pub struct WeakEngine {
    parts: Weak<Parts>,
}

impl WeakEngine {
    /// The engine, while it exists.
    #[must_use]
    pub fn upgrade(&self) -> Option<Engine> {
        self.parts.upgrade().map(|parts| Engine { parts })
    }
}

/// Every method, also of the parts, refuses with `state_unusable` where the store fails, besides what it says itself.
impl Engine {
    /// Opens the state, or creates it.
    ///
    /// # Errors
    /// `state_unusable` where it is damaged or of a newer version, `state_locked` where another process has the host or the state.
    pub fn open(
        config: Config,
        host: Arc<dyn Host>,
        launchers: Vec<Arc<dyn Launcher>>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Refusal> {
        // Before the store: another process that changes this host's devices can have its state elsewhere.
        let host_lock =
            host.lock_host(&config.state_dir).map_err(|error| refusals::host_not_locked(&error))?;
        let store = Arc::new(Store::open(&config.state_dir)?);
        let config = Arc::new(config);
        let journal =
            Arc::new(Journal::new(store.clone(), host.clone(), observer, &config, host_lock)?);
        let hardware = Arc::new(Hardware { host });
        let marks = Arc::new(Marks::new(
            store.clone(),
            journal.clone(),
            hardware.clone(),
            &config.state_dir,
        ));
        let vf_counts = Arc::new(VfCounts::new(
            store.clone(),
            journal.clone(),
            hardware.clone(),
            marks.clone(),
        ));
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
        let images = Images::new(store.clone(), journal.clone(), config.clone());
        let instances = Instances::new(
            journal.clone(),
            hardware.clone(),
            claims.clone(),
            images.clone(),
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
        let completer: Weak<dyn CompletesOperations> = Arc::downgrade(&recovery) as _;
        journal.completed_by(completer);
        let parts = Parts {
            store,
            journal,
            hardware,
            vf_counts,
            claims,
            devices,
            images,
            instances,
            recovery,
            config,
        };
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

    /// Registered devices, and devices that no claim has.
    #[must_use]
    pub fn devices(&self) -> &Devices {
        &self.parts.devices
    }

    /// How many virtual functions devices have.
    #[must_use]
    pub fn vf_counts(&self) -> &VfCounts {
        &self.parts.vf_counts
    }

    /// Images.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.parts.images
    }

    /// Instances: machines of ours.
    #[must_use]
    pub fn instances(&self) -> &Instances {
        &self.parts.instances
    }

    /// Finishes or undoes what an earlier daemon left open, and finds its machines. Once, before anything is served.
    ///
    /// # Errors
    /// Where the store or the host cannot be read; what cannot be undone is in the report.
    pub fn recover(&self) -> Result<RecoveryReport, Refusal> {
        self.parts.recovery.recover()
    }

    /// Compares claims, machines and the host again. What can be fixed is fixed; the rest is in the report.
    ///
    /// # Errors
    /// Where the store or the host cannot be read.
    pub fn reconcile(&self) -> Result<RecoveryReport, Refusal> {
        self.parts.recovery.reconcile()
    }

    /// What the last [`recover`](Self::recover) or [`reconcile`](Self::reconcile) found; `None` before the first.
    #[must_use]
    pub fn last_report(&self) -> Option<RecoveryReport> {
        self.parts.recovery.last_report()
    }

    /// Ends the operations that were left open while the journal could not be written, then quarantines the functions of
    /// prepared claims that do not answer any more. Returns the latter, each with the reason.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn check_claims(&self) -> Result<Vec<(Address, String)>, Refusal> {
        self.parts.recovery.check_claims()
    }

    /// Cancels all claims that are being prepared, because the daemon stops; changes are rolled back.
    pub fn cancel_all(&self) {
        self.parts.journal.turns.cancel_all();
    }

    /// Limits how long recovery waits for a worker of a dead daemon: 90 s by default, for all of a claim's devices together.
    pub fn limit_patience(&self, most: Duration) {
        *lock(&self.parts.journal.patience) = most;
    }

    /// Limits how long an operation under way waits for a journal that cannot be written, before it is rolled back:
    /// [`Config::journal_timeout`] by default. While none is under way, a write is retried for 5 s at most.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn limit_journal_patience(&self, most: Duration) -> Result<(), Refusal> {
        self.parts.journal.limit_journal_patience(most)
    }

    /// Limits how many parts of a claim are prepared at the same time: 16 by default. With one, the order of all steps is
    /// the plan's.
    pub fn limit_at_once(&self, most: usize) {
        self.parts.claims.limit_at_once(most);
    }

    /// The latest operations with their steps, latest first.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn journal(&self, limit: u32) -> Result<Vec<Operation>, Refusal> {
        self.parts.store.read(|from| Operation::latest(from, limit))
    }

    /// What the host has, and what is allocated.
    ///
    /// # Errors
    /// Where the host cannot be read.
    pub fn resources(&self) -> Result<Resources, Refusal> {
        let parts = &self.parts;
        resources::resources(&parts.store, &parts.hardware, &parts.devices, &parts.config)
    }

    /// The hardware as it is now.
    ///
    /// # Errors
    /// Where the host cannot be read.
    pub fn inventory(&self) -> Result<Inventory, Refusal> {
        self.parts.hardware.inventory()
    }

    /// These functions as they are now, without the rest of the host.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn functions(&self, addresses: &[Address]) -> Result<Inventory, Refusal> {
        self.parts.hardware.functions(addresses)
    }

    /// The launchers, and whether they can be used here.
    #[must_use]
    pub fn hypervisors(&self) -> Vec<(&'static str, Availability)> {
        self.parts.instances.hypervisors()
    }
}
