//! The engine as the faces see it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use model::plan::Plan;
use model::{Address, Availability, Claim, Host, Inventory, Launcher, Owner, Refusal};

use crate::claims::Access;
use crate::core::{Core, held};
use crate::{
    AvailableDevice, AvailableFilter, ClaimRequest, Claimed, Config, CreateInstance, Device, Image,
    ImportImage, Instance, InstanceState, Observer, Operation, RecoveredDevice, RecoveryReport,
    RegisterDevice, Resources, VfConfiguration,
};

/// Everything that must survive a crash, behind one handle. Cloning it is cheap; its methods block.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
}

/// An engine that is not kept alive: for observers, which the engine itself holds.
#[derive(Clone)]
pub struct WeakEngine {
    core: Weak<Core>,
}

impl WeakEngine {
    /// The engine, while it is there.
    #[must_use]
    pub fn upgrade(&self) -> Option<Engine> {
        self.core.upgrade().map(|core| Engine { core })
    }
}

/// Every method refuses with `state_unusable` where the store fails, besides what it says itself.
impl Engine {
    /// Opens the state, or makes it.
    ///
    /// # Errors
    /// `state_unusable` where it is damaged or of a newer version, `state_locked` where another process has it.
    pub fn open(
        config: Config,
        host: Arc<dyn Host>,
        launchers: Vec<Arc<dyn Launcher>>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Refusal> {
        Ok(Self { core: Core::new(config, host, launchers, observer)? })
    }

    /// It, for those who must not keep it alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakEngine {
        WeakEngine { core: Arc::downgrade(&self.core) }
    }

    /// Finishes or undoes what an earlier daemon left open, and finds its machines. Once, before anything is served.
    ///
    /// # Errors
    /// Where the store or the host cannot be read; what cannot be undone is in the report.
    pub fn recover(&self) -> Result<RecoveryReport, Refusal> {
        self.core.recover()
    }

    /// Limits how long recovery waits for a worker of a dead daemon: 90 s by default, for all of a claim's
    /// devices together.
    pub fn limit_patience(&self, most: Duration) {
        *held(&self.core.patience) = most;
    }

    /// Limits how long an operation under way waits for a journal that cannot be written, before it is rolled back:
    /// [`Config::journal_timeout`] by default. What is not under way waits 5 s at most.
    ///
    /// # Errors
    /// As all methods.
    pub fn limit_journal_patience(&self, most: Duration) -> Result<(), Refusal> {
        self.core.limit_journal_patience(most)
    }

    /// Limits how many parts of a claim are prepared at the same time: 16 by default. With one, the order of all steps is
    /// the plan's.
    pub fn limit_at_once(&self, most: usize) {
        *held(&self.core.at_once) = most.max(1);
    }

    /// The functions that could be handed over now.
    ///
    /// # Errors
    /// Where the host cannot be read.
    pub fn available(&self, filter: &AvailableFilter) -> Result<Vec<AvailableDevice>, Refusal> {
        self.core.available(filter)
    }

    /// Registers a device.
    ///
    /// # Errors
    /// `invalid_pci_address`, `invalid_name`, `device_not_found`, `not_assignable`, `no_iommu`, `conflict`.
    pub fn register_device(&self, request: RegisterDevice) -> Result<Device, Refusal> {
        self.core.register(request)
    }

    /// The registered devices that have all these labels.
    ///
    /// # Errors
    /// Where the host cannot be read.
    pub fn devices(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Device>, Refusal> {
        self.core.devices(tags)
    }

    /// A registered device by id, name or address.
    ///
    /// # Errors
    /// `not_found`.
    pub fn device(&self, key: &str) -> Result<Device, Refusal> {
        self.core.device(key)
    }

    /// Takes back a registration.
    ///
    /// # Errors
    /// `not_found`, `in_use`.
    pub fn delete_device(&self, key: &str) -> Result<(), Refusal> {
        self.core.delete_device(key)
    }

    /// A person says that a wedged or quarantined device is well again, by its address or registration; what was left
    /// of its hand-over is undone now. So is the mark of another Handover's claim, which that person says is not needed any
    /// more. Gives what is to be known.
    ///
    /// # Errors
    /// `not_found`; `in_use` where something uses what another Handover claimed; `device_wedged` or `undo_failed` where it still cannot be given back.
    pub fn clear_device(&self, key: &str) -> Result<Vec<String>, Refusal> {
        self.core.clear(key)
    }

    /// Sets how many virtual functions a device has, now and at each boot, and whether they are given to drivers.
    ///
    /// # Errors
    /// `not_assignable`, `insufficient_resources`, `in_use`; `step_failed` where the kernel refuses, and then it is as it
    /// was.
    pub fn set_vf_count(&self, key: &str, count: u16, autoprobe: bool) -> Result<(), Refusal> {
        self.core.set_vf_count(key, count, autoprobe)
    }

    /// How many virtual functions devices shall have.
    ///
    /// # Errors
    /// As all methods.
    pub fn vf_configurations(&self) -> Result<Vec<VfConfiguration>, Refusal> {
        self.core.vf_configurations()
    }

    /// Claims devices and parts of devices: all that is asked for, or nothing.
    ///
    /// # Errors
    /// Why it cannot be had; what had been done is undone then, and the error says so where it could not be.
    pub fn claim(&self, request: &ClaimRequest) -> Result<Claimed, Refusal> {
        self.core.claim(request)
    }

    /// What a request would get, and the steps that would be made for it. Nothing is kept, nothing is done.
    ///
    /// # Errors
    /// Why it could not be had.
    pub fn dry_run(&self, request: &ClaimRequest) -> Result<(Claim, Plan), Refusal> {
        self.core.dry_run(request).map(|(stored, plan)| (stored.claim, plan))
    }

    /// A claim by its id, or by its owner `KIND/ID` who has no other.
    ///
    /// # Errors
    /// `not_found`; `conflict` where the owner has several.
    pub fn find_claim(&self, key: &str) -> Result<Claim, Refusal> {
        self.core.stored_claim(key).map(|stored| self.core.as_it_is(stored.claim))
    }

    /// Prepares a reserved claim for user `uid`; a prepared one is left as it is.
    ///
    /// # Errors
    /// As [`claim`](Self::claim); it is reserved then as before.
    pub fn prepare_claim(&self, key: &str, access: &Access) -> Result<Claim, Refusal> {
        self.core.prepare_claim(key, access).map(|stored| stored.claim)
    }

    /// Gives the host back what a claim took, and keeps the reservation. With the claim comes what its owner should know: what
    /// somebody else changed meanwhile, which is not put back.
    ///
    /// # Errors
    /// `in_use` while a machine has it; `device_wedged` or `undo_failed` where it cannot be given back.
    pub fn unprepare_claim(&self, key: &str) -> Result<(Claim, Vec<String>), Refusal> {
        self.core.unprepare(key).map(|(stored, notes)| (stored.claim, notes))
    }

    /// Releases a claim; `owner`, where it is given, must be the claim's. Gives what its owner should know, as
    /// [`unprepare_claim`](Self::unprepare_claim) does.
    ///
    /// # Errors
    /// As [`unprepare_claim`](Self::unprepare_claim); `forbidden` where it is another's.
    pub fn release_claim(&self, key: &str, owner: Option<&Owner>) -> Result<Vec<String>, Refusal> {
        self.core.release(key, owner)
    }

    /// Prolongs a claim from now on; without a lease it lasts until it is released.
    ///
    /// # Errors
    /// `not_found`.
    pub fn renew_claim(&self, key: &str, lease: Option<Duration>) -> Result<Claim, Refusal> {
        self.core.renew(key, lease).map(|stored| stored.claim)
    }

    /// Releases the claims whose lease is over; gives the reasons why some could not be, and how long until the next.
    ///
    /// # Errors
    /// As all methods.
    pub fn release_expired(&self) -> Result<(Vec<Refusal>, Option<Duration>), Refusal> {
        Ok((self.core.release_expired()?, self.core.next_expiry()?))
    }

    /// Compares claims, machines and host again, mends what can be mended and tells the rest.
    ///
    /// # Errors
    /// Where the store or the host cannot be read.
    pub fn reconcile(&self) -> Result<RecoveryReport, Refusal> {
        self.core.reconcile()
    }

    /// What the last look at everything found; `None` before the first.
    #[must_use]
    pub fn last_report(&self) -> Option<RecoveryReport> {
        held(&self.core.last_report).clone()
    }

    /// Brings these functions, or all, back to their own drivers, as far as no machine and no claim has them, and says
    /// of each how it is then.
    ///
    /// # Errors
    /// `device_not_found`; where the store or the host cannot be read.
    pub fn recover_devices(&self, asked: &[Address]) -> Result<Vec<RecoveredDevice>, Refusal> {
        self.core.recover_devices(asked)
    }

    /// Looks whether prepared functions still answer, and quarantines those that do not; gives what is new.
    ///
    /// # Errors
    /// As all methods.
    pub fn look_after_claims(&self) -> Result<Vec<(Address, String)>, Refusal> {
        self.core.look_after_claims()
    }

    /// Quarantines a function that the kernel could not recover from a PCIe error; gives the reason, where it is new.
    ///
    /// # Errors
    /// As all methods.
    pub fn recovery_failed(&self, address: Address) -> Result<Option<String>, Refusal> {
        self.core.recovery_failed(address)
    }

    /// Asks all that is being prepared to give up, for the daemon ends: what had been done is undone.
    pub fn give_up(&self) {
        self.core.give_all_up();
    }

    /// Where a face puts files that it receives for an import.
    #[must_use]
    pub fn staging_dir(&self) -> PathBuf {
        self.core.staging_dir()
    }

    /// Accepts an image, and imports it in the background.
    ///
    /// # Errors
    /// `invalid_name`, `invalid_request`, `already_exists`.
    pub fn import_image(&self, request: ImportImage) -> Result<Image, Refusal> {
        self.core.import(request)
    }

    /// All images.
    ///
    /// # Errors
    /// As all methods.
    pub fn images(&self) -> Result<Vec<Image>, Refusal> {
        self.core.all_images()
    }

    /// An image by name.
    ///
    /// # Errors
    /// `not_found`.
    pub fn image(&self, name: &str) -> Result<Image, Refusal> {
        self.core.image(name).map(|stored| stored.image)
    }

    /// Deletes an image.
    ///
    /// # Errors
    /// `not_found`, `in_use`.
    pub fn delete_image(&self, name: &str) -> Result<(), Refusal> {
        self.core.delete_image(name)
    }

    /// Creates an instance and returns when it runs.
    ///
    /// # Errors
    /// Any; what had been done is undone then, and the error says so where it could not be.
    pub fn create_instance(&self, request: CreateInstance) -> Result<Instance, Refusal> {
        self.core.create(request).map(|row| row.instance)
    }

    /// The instances that have all these labels.
    ///
    /// # Errors
    /// As all methods.
    pub fn instances(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Instance>, Refusal> {
        self.core.instances(tags)
    }

    /// An instance by id or name.
    ///
    /// # Errors
    /// `not_found`.
    pub fn instance(&self, key: &str) -> Result<Instance, Refusal> {
        self.core.stored_instance(key).map(|row| row.instance)
    }

    /// Starts a stopped instance and returns when it runs.
    ///
    /// # Errors
    /// `not_found`, `invalid_state`, and all that creating can refuse.
    pub fn start_instance(&self, key: &str) -> Result<Instance, Refusal> {
        self.core.start(key).map(|row| row.instance)
    }

    /// Stops an instance; its devices stay its own.
    ///
    /// # Errors
    /// `not_found`, `invalid_state`, `undo_failed` where its machine does not end.
    pub fn stop_instance(&self, key: &str) -> Result<Instance, Refusal> {
        self.core.stop(key).map(|row| row.instance)
    }

    /// Deletes an instance and gives its devices back.
    ///
    /// # Errors
    /// `not_found`, `invalid_state`, `device_wedged`, `undo_failed`: then it is still there and can be deleted again.
    pub fn delete_instance(&self, key: &str) -> Result<(), Refusal> {
        self.core.delete(key)
    }

    /// Waits until an instance is in a state; gives it as it is then, or when the time is over.
    ///
    /// # Errors
    /// `not_found`, also where it is deleted meanwhile.
    pub fn wait_instance(
        &self,
        key: &str,
        state: InstanceState,
        timeout: Duration,
    ) -> Result<Instance, Refusal> {
        self.core.wait(key, state, timeout)
    }

    /// The file to which an instance's serial console is written.
    ///
    /// # Errors
    /// `not_found`.
    pub fn console(&self, key: &str) -> Result<PathBuf, Refusal> {
        self.core.console(key)
    }

    /// What the host has and what is given away.
    ///
    /// # Errors
    /// Where the host cannot be read.
    pub fn resources(&self) -> Result<Resources, Refusal> {
        self.core.resources()
    }

    /// The hardware as it is now.
    ///
    /// # Errors
    /// Where the host cannot be read.
    pub fn inventory(&self) -> Result<Inventory, Refusal> {
        self.core.inventory()
    }

    /// How these functions are now; of the others it tells nothing.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn functions(&self, addresses: &[Address]) -> Result<Inventory, Refusal> {
        self.core.functions(addresses)
    }

    /// The launchers, and whether they can be used here.
    #[must_use]
    pub fn hypervisors(&self) -> Vec<(&'static str, Availability)> {
        let launchers = self.core.launchers.iter();
        launchers.map(|launcher| (launcher.name(), launcher.availability())).collect()
    }

    /// All claims.
    ///
    /// # Errors
    /// As all methods.
    pub fn claims(&self) -> Result<Vec<Claim>, Refusal> {
        self.core.claims()
    }

    /// The latest operations with their steps, latest first.
    ///
    /// # Errors
    /// As all methods.
    pub fn journal(&self, limit: u32) -> Result<Vec<Operation>, Refusal> {
        self.core.store.read(|from| Operation::latest(from, limit))
    }
}
