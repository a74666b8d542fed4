//! A simulated host with an engine, which can be killed at any boundary of its journal.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::{
    Action, Config, Engine, ImageSource, ImageStatus, ImportImage, JournalEvent, Observer,
    OperationKind, RegisterDevice,
};
use model::{Address, Code, DiskFormat, Host};
use sim::{SimHost, SimLauncher};
use uuid::Uuid;

use crate::history::{Hardware, Meanwhile};
use crate::truth::Truth;

/// The panic payload of a simulated crash.
struct Crash;

/// The panic payload of a violated invariant.
pub struct Broken(pub String);

/// Ends the history: an invariant is violated.
pub fn broken(what: String) -> ! {
    resume_unwind(Box::new(Broken(what)))
}

/// What will happen during the running verb.
#[derive(Default)]
struct Plan {
    /// How many more boundaries the daemon survives.
    left: Option<u16>,
    /// Whether that crash is a power loss.
    power: bool,
    dead: bool,
    meanwhile: Option<(u16, Meanwhile)>,
    /// How much of the write-ahead log is synced, and the log's salt.
    synced: Option<(usize, Vec<u8>)>,
    /// The contents of the store after a power loss.
    left_over: Option<(Vec<u8>, Vec<u8>)>,
}

pub struct World {
    pub host: Arc<SimHost>,
    pub launcher: Arc<SimLauncher>,
    pub truth: Mutex<Truth>,
    /// Owners whose claims the current event may change.
    pub touched: Mutex<BTreeSet<String>>,
    /// VF counts that the current event sets, and whether it reported success.
    pub configured: Mutex<Vec<(Address, u16, bool, bool)>>,
    /// Devices whose VF count another tool changed during the current event.
    pub counted: Mutex<BTreeSet<Address>>,
    pub gave_up: Mutex<bool>,
    /// Whether the store was locked at some point of the current event.
    pub unwritable: Mutex<bool>,
    /// The connection that locks the store, and for how many more boundaries.
    store_lock: Mutex<Option<(u16, rusqlite::Connection)>>,
    engine: Mutex<Option<Engine>>,
    plan: Mutex<Plan>,
    /// The state of the random numbers that order the independent parts of recoveries.
    order: Mutex<u64>,
    dir: tempfile::TempDir,
}

/// Per hardware, a store with an image and registered devices.
static TEMPLATES: LazyLock<Mutex<BTreeMap<u8, Vec<u8>>>> = LazyLock::new(Mutex::default);

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(on: Hardware, seed: u64) -> Arc<Self> {
        let hardware: sim::Hardware = match on {
            Hardware::Workstation => sim::workstation().into(),
            Hardware::Server => sim::server(),
            Hardware::Gpus => sim::gpus(),
            Hardware::Board => sim::board(),
            Hardware::Desktop => sim::desktop(),
        };
        // While one of these is claimed, units can be stopped for it.
        let mut persistent = hardware.persistent.clone();
        persistent.extend(hardware.desktop.iter().map(|desktop| desktop.card));
        let host = Arc::new(SimHost::seeded(hardware, seed));
        let truth = Truth::new(host.snapshot(), &host.inventory().unwrap(), persistent);
        let memory = Path::new("/dev/shm");
        // In memory, a sync is instant and does not wear the disk.
        let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let launcher = SimLauncher::new(host.clone());
        if seed % 2 == 1 {
            launcher.set_takes_descriptors();
        }
        let world = Arc::new(Self {
            launcher: Arc::new(launcher),
            host,
            truth: Mutex::new(truth),
            touched: Mutex::default(),
            configured: Mutex::default(),
            counted: Mutex::default(),
            gave_up: Mutex::default(),
            unwritable: Mutex::default(),
            store_lock: Mutex::default(),
            engine: Mutex::default(),
            plan: Mutex::default(),
            order: Mutex::new(seed),
            dir: tempfile::Builder::new().prefix("handover-soak-").tempdir_in(dir).unwrap(),
        });
        let mut templates = lock(&TEMPLATES);
        let template = templates.entry(on as u8).or_insert_with(|| world.template(on));
        std::fs::create_dir_all(world.state_dir()).unwrap();
        std::fs::write(world.database(), template).unwrap();
        drop(templates);
        world
    }

    fn template(self: &Arc<Self>, on: Hardware) -> Vec<u8> {
        let engine = self.open();
        self.import(&engine);
        let devices: [&str; 4] = match on {
            Hardware::Workstation | Hardware::Desktop => {
                ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"]
            }
            Hardware::Server => ["0000:01:00.0", "0000:02:00.0", "0000:05:00.0", "0000:03:00.0"],
            Hardware::Gpus | Hardware::Board => {
                ["0000:11:00.0", "0000:11:01.0", "0000:21:00.0", "0000:22:00.0"]
            }
        };
        for (number, address) in devices.into_iter().enumerate() {
            let request = RegisterDevice {
                address: address.into(),
                name: Some(format!("dev{number}")),
                ..RegisterDevice::default()
            };
            engine.devices().register(request).unwrap();
        }
        drop(engine);
        self.close();
        std::fs::read(self.database()).unwrap()
    }

    fn import(&self, engine: &Engine) {
        std::fs::write(self.dir.path().join("debian.raw"), [7; 4096]).unwrap();
        let request = ImportImage {
            name: "debian".into(),
            disk: Some((ImageSource::Path("debian.raw".into()), DiskFormat::Raw)),
            ..ImportImage::default()
        };
        engine.images().import(request).unwrap();
        while engine.images().find("debian").unwrap().status != ImageStatus::Ready {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn database(&self) -> PathBuf {
        self.state_dir().join("state.db")
    }

    fn log(&self) -> PathBuf {
        self.state_dir().join("state.db-wal")
    }

    /// A second connection to the store.
    pub fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.database()).unwrap()
    }

    /// Starts the daemon, without recovery.
    pub fn open(self: &Arc<Self>) -> Engine {
        let config = Config {
            state_dir: self.state_dir(),
            image_dirs: vec![self.dir.path().to_owned()],
            block_dirs: Vec::new(),
            image_limits: engine::ImageLimits::default(),
            machine_uids: 200_000..200_010,
            shutdown_grace: Duration::from_secs(1),
            journal_timeout: engine::JOURNAL_TIMEOUT,
            journal_kept: engine::JournalKept::default(),
            guest_init: None,
        };
        let until = Instant::now() + Duration::from_secs(10);
        let engine = loop {
            let observer = Arc::new(Boundaries(self.clone()));
            let launcher: Arc<dyn model::Launcher> = self.launcher.clone();
            match Engine::open(config.clone(), self.host.clone(), vec![launcher], observer) {
                Ok(engine) => break engine,
                // A thread that watches a machine may still be exiting.
                Err(refusal) if refusal.code == Code::StateLocked && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(refusal) => broken(format!("the store cannot be opened: {refusal}")),
            }
        };
        // Stuck workers do not end on their own here. One thread performs all steps, so that a history is reproducible.
        engine.limit_patience(Duration::ZERO);
        engine.limit_at_once(1);
        engine.limit_journal_patience(Duration::ZERO).unwrap();
        *lock(&self.engine) = Some(engine.clone());
        *lock(&self.gave_up) = false;
        lock(&self.plan).synced = None;
        engine
    }

    /// Locks the store, like another process.
    pub fn lock_store(&self, boundaries: u16) {
        let connection = self.sqlite();
        connection.busy_timeout(Duration::ZERO).unwrap();
        // A nested verb may be writing.
        if connection.execute_batch("BEGIN IMMEDIATE").is_ok() {
            *lock(&self.store_lock) = Some((boundaries, connection));
            *lock(&self.unwritable) = true;
        }
    }

    pub fn unlock_store(&self) {
        *lock(&self.store_lock) = None;
    }

    /// Counts down the boundaries of the lock.
    fn keep_store_locked(&self) {
        let mut lock = lock(&self.store_lock);
        match lock.as_mut() {
            Some((0, _)) => *lock = None,
            Some((left, _)) => *left -= 1,
            None => {}
        }
    }

    pub fn engine(&self) -> Engine {
        lock(&self.engine).clone().unwrap()
    }

    pub fn close(&self) {
        *lock(&self.engine) = None;
    }

    /// Restarts the daemon, with recovery.
    pub fn restart(self: &Arc<Self>) {
        self.close();
        let engine = self.open();
        self.recover(&engine);
    }

    /// Recovers. Independent parts come in random order: on a real host they run in parallel.
    pub fn recover(&self, engine: &Engine) {
        let mut pick = |left: usize| {
            let mut state = lock(&self.order);
            // The generator of Knuth's MMIX, whose high bits are the better ones.
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(*state >> 33).unwrap_or_default() % left
        };
        if let Err(refusal) = engine.recover_one_by_one(&mut pick) {
            broken(format!("recovery failed: {refusal}"));
        }
    }

    /// Runs `work`, with something that happens meanwhile.
    pub fn during(&self, meanwhile: Option<(u16, Meanwhile)>, work: impl FnOnce(&Engine)) {
        lock(&self.plan).meanwhile = meanwhile;
        work(&self.engine());
        lock(&self.plan).meanwhile = None;
        self.synced();
    }

    /// Runs `work` with a daemon that crashes at the n-th boundary; returns whether it survived.
    pub fn killed_at(&self, boundary: u16, power: bool, work: impl FnOnce(&Engine)) -> bool {
        {
            let mut plan = lock(&self.plan);
            (plan.left, plan.power, plan.dead) = (Some(boundary), power, false);
        }
        let engine = self.engine();
        let result = catch_unwind(AssertUnwindSafe(|| work(&engine)));
        {
            let mut plan = lock(&self.plan);
            (plan.left, plan.meanwhile) = (None, None);
        }
        drop(engine);
        match result {
            Ok(()) => true,
            Err(cause) if cause.is::<Crash>() => {
                self.close();
                false
            }
            Err(cause) => resume_unwind(cause),
        }
    }

    /// Notes that everything acknowledged so far is synced.
    fn synced(&self) {
        if let Ok(log) = std::fs::read(self.log()) {
            lock(&self.plan).synced = Some((log.len(), salt(&log)));
        }
    }

    /// Simulates a power loss: only the synced part of the log is kept. A log that may have been checkpointed already
    /// (SQLite does so at 1000 pages) is kept whole.
    fn cut(&self, plan: &mut Plan) {
        let (Ok(file), Ok(mut log)) = (std::fs::read(self.database()), std::fs::read(self.log()))
        else {
            return;
        };
        if let Some((length, before)) = &plan.synced
            && *before == salt(&log)
            && log.len() < 900 * 4096
        {
            log.truncate(*length);
        }
        plan.left_over = Some((file, log));
    }

    /// Reboots the host, with the contents of the store that survived a power loss.
    pub fn reboot(self: &Arc<Self>) {
        self.close();
        self.host.reboot();
        self.launcher.reboot();
        let left_over = lock(&self.plan).left_over.take();
        if let Some((file, log)) = left_over {
            self.wait_for_the_lock();
            let _ = std::fs::remove_file(self.state_dir().join("state.db-shm"));
            std::fs::write(self.database(), file).unwrap();
            std::fs::write(self.log(), log).unwrap();
        }
        lock(&self.truth).rebooted(self.host.snapshot());
        self.restart();
    }

    /// Waits until the store's lock is free.
    fn wait_for_the_lock(self: &Arc<Self>) {
        drop(self.open());
        self.close();
    }
}

/// The part of a log's header that changes when the log restarts (the salts, in the file format's section 4.1).
fn salt(log: &[u8]) -> Vec<u8> {
    log.get(16..24).unwrap_or_default().to_vec()
}

/// The message of a panic payload.
pub fn words(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
    let told = cause.downcast_ref::<Broken>().map(|broken| broken.0.clone());
    told.or(text).unwrap_or_else(|| "a panic".into())
}

/// Receives each boundary of the journal.
struct Boundaries(Arc<World>);

impl Boundaries {
    fn next(&self, event: &JournalEvent) -> Option<(Uuid, Meanwhile)> {
        let mut plan = lock(&self.0.plan);
        if let Some(left) = plan.left {
            if left == 0 {
                if plan.power && !plan.dead {
                    self.0.cut(&mut plan);
                }
                plan.dead = true;
                drop(plan);
                resume_unwind(Box::new(Crash));
            }
            plan.left = Some(left - 1);
        }
        // Locks may be held when an operation is opened.
        let (JournalEvent::Intended { subject, .. }
        | JournalEvent::Performed { subject, .. }
        | JournalEvent::Recorded { subject, .. }) = event
        else {
            return None;
        };
        let (left, _) = plan.meanwhile.as_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        plan.meanwhile.take().map(|(_, meanwhile)| (*subject, meanwhile))
    }
}

impl Observer for Boundaries {
    fn reached(&self, event: &JournalEvent) {
        let synced = match event {
            JournalEvent::Closed { .. } => true,
            JournalEvent::Opened { operation, .. } => {
                use OperationKind::{Claim, Prepare, Release, Unprepare};
                !matches!(operation, Claim | Prepare | Unprepare | Release)
            }
            // Records that survive a power loss are synced.
            JournalEvent::Intended { action: Action::Device(step), .. } => step.outlasts_the_boot(),
            _ => false,
        };
        if synced && lock(&self.0.plan).power {
            self.0.synced();
        }
        self.0.keep_store_locked();
        if let Some((subject, meanwhile)) = self.next(event) {
            self.0.meanwhile(&self.0.engine(), subject, meanwhile);
        }
    }
}
