//! A simulated host with an engine on it, which can be killed at any boundary of its journal.

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

/// The daemon dies here.
struct Crash;

/// What must hold does not.
pub struct Broken(pub String);

/// Ends the history: an invariant does not hold.
pub fn broken(what: String) -> ! {
    resume_unwind(Box::new(Broken(what)))
}

/// What is to happen during the verb under way.
#[derive(Default)]
struct Plan {
    /// The daemon lives for so many boundaries more.
    left: Option<u16>,
    /// Whether the power fails then.
    power: bool,
    dead: bool,
    meanwhile: Option<(u16, Meanwhile)>,
    /// How much of the write-ahead log is on the disk for sure, and the log's salt.
    synced: Option<(usize, Vec<u8>)>,
    /// The store as it is after the power failed.
    left_over: Option<(Vec<u8>, Vec<u8>)>,
}

pub struct World {
    pub host: Arc<SimHost>,
    pub launcher: Arc<SimLauncher>,
    pub truth: Mutex<Truth>,
    /// Whose claims the event under way may change.
    pub touched: Mutex<BTreeSet<String>>,
    /// Numbers of virtual functions that the event under way sets, and whether it was said to be done.
    pub configured: Mutex<Vec<(Address, u16, bool, bool)>>,
    /// Of which devices another tool set the number during the event under way.
    pub counted: Mutex<BTreeSet<Address>>,
    pub gave_up: Mutex<bool>,
    /// Whether the store could not be written at some time of the event under way.
    pub unwritable: Mutex<bool>,
    /// What keeps others from writing to the store, and for how many boundaries more.
    store_lock: Mutex<Option<(u16, rusqlite::Connection)>>,
    engine: Mutex<Option<Engine>>,
    plan: Mutex<Plan>,
    dir: tempfile::TempDir,
}

/// The store of a hardware with an image and its devices registered.
static TEMPLATES: LazyLock<Mutex<BTreeMap<u8, Vec<u8>>>> = LazyLock::new(Mutex::default);

pub fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(on: Hardware, seed: u64) -> Arc<Self> {
        let hardware: sim::Hardware = match on {
            Hardware::Workstation => sim::workstation().into(),
            Hardware::Server => sim::server(),
            Hardware::Gpus => sim::gpus(),
        };
        let persistent = hardware.persistent.clone();
        let host = Arc::new(SimHost::seeded(hardware, seed));
        let truth = Truth::new(host.snapshot(), &host.inventory().unwrap(), persistent);
        let memory = Path::new("/dev/shm");
        // Memory answers a sync at once, and wears no disk.
        let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let world = Arc::new(Self {
            launcher: Arc::new(SimLauncher::new(host.clone())),
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
            dir: tempfile::Builder::new().prefix("handover-soak-").tempdir_in(dir).unwrap(),
        });
        let mut templates = held(&TEMPLATES);
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
            Hardware::Workstation => {
                ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"]
            }
            Hardware::Server => ["0000:01:00.0", "0000:02:00.0", "0000:05:00.0", "0000:03:00.0"],
            Hardware::Gpus => ["0000:11:00.0", "0000:11:01.0", "0000:21:00.0", "0000:22:00.0"],
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

    /// A second connection to the store, beside the engine's.
    pub fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.database()).unwrap()
    }

    /// Starts the daemon; it has not recovered yet.
    pub fn open(self: &Arc<Self>) -> Engine {
        let config = Config {
            state_dir: self.state_dir(),
            image_dirs: vec![self.dir.path().to_owned()],
            machine_uids: 200_000..200_010,
            shutdown_grace: Duration::from_secs(1),
            journal_timeout: engine::JOURNAL_TIMEOUT,
            journal_kept: engine::JournalKept::default(),
        };
        let until = Instant::now() + Duration::from_secs(10);
        let engine = loop {
            let observer = Arc::new(Boundaries(self.clone()));
            let launcher: Arc<dyn model::Launcher> = self.launcher.clone();
            match Engine::open(config.clone(), self.host.clone(), vec![launcher], observer) {
                Ok(engine) => break engine,
                // A thread that watches a machine may still be on its way out.
                Err(refusal) if refusal.code == Code::StateLocked && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(refusal) => broken(format!("the store cannot be opened: {refusal}")),
            }
        };
        // Stuck workers do not come out of the kernel by themselves here, and one thread makes all the steps, so that a
        // history is the same each time.
        engine.limit_patience(Duration::ZERO);
        engine.limit_at_once(1);
        engine.limit_journal_patience(Duration::ZERO).unwrap();
        *held(&self.engine) = Some(engine.clone());
        *held(&self.gave_up) = false;
        held(&self.plan).synced = None;
        engine
    }

    /// Locks the store, as another process does.
    pub fn lock_store(&self, boundaries: u16) {
        let connection = self.sqlite();
        connection.busy_timeout(Duration::ZERO).unwrap();
        // A verb within a verb may be writing just now.
        if connection.execute_batch("BEGIN IMMEDIATE").is_ok() {
            *held(&self.store_lock) = Some((boundaries, connection));
            *held(&self.unwritable) = true;
        }
    }

    pub fn unlock_store(&self) {
        *held(&self.store_lock) = None;
    }

    /// One boundary less.
    fn keep_store_locked(&self) {
        let mut lock = held(&self.store_lock);
        match lock.as_mut() {
            Some((0, _)) => *lock = None,
            Some((left, _)) => *left -= 1,
            None => {}
        }
    }

    pub fn engine(&self) -> Engine {
        held(&self.engine).clone().unwrap()
    }

    pub fn close(&self) {
        *held(&self.engine) = None;
    }

    /// Starts the daemon anew, and lets it recover.
    pub fn restart(self: &Arc<Self>) {
        self.close();
        let engine = self.open();
        if let Err(refusal) = engine.recover() {
            broken(format!("recovery failed: {refusal}"));
        }
    }

    /// Works with something that happens meanwhile.
    pub fn during(&self, meanwhile: Option<(u16, Meanwhile)>, work: impl FnOnce(&Engine)) {
        held(&self.plan).meanwhile = meanwhile;
        work(&self.engine());
        held(&self.plan).meanwhile = None;
        self.synced();
    }

    /// Works until the n-th boundary, where the daemon dies. Whether it lived.
    pub fn killed_at(&self, boundary: u16, power: bool, work: impl FnOnce(&Engine)) -> bool {
        {
            let mut plan = held(&self.plan);
            (plan.left, plan.power, plan.dead) = (Some(boundary), power, false);
        }
        let engine = self.engine();
        let result = catch_unwind(AssertUnwindSafe(|| work(&engine)));
        {
            let mut plan = held(&self.plan);
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

    /// What was acknowledged is on the disk for sure.
    fn synced(&self) {
        if let Ok(log) = std::fs::read(self.log()) {
            held(&self.plan).synced = Some((log.len(), salt(&log)));
        }
    }

    /// The power fails: of the log, what was synced is left. A log that may have been carried over into the file
    /// already (SQLite does at 1000 pages) is left whole.
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

    /// The host comes up again, with what is left of the store after a failed power.
    pub fn reboot(self: &Arc<Self>) {
        self.close();
        self.host.reboot();
        self.launcher.reboot();
        let left_over = held(&self.plan).left_over.take();
        if let Some((file, log)) = left_over {
            self.wait_for_the_lock();
            let _ = std::fs::remove_file(self.state_dir().join("state.db-shm"));
            std::fs::write(self.database(), file).unwrap();
            std::fs::write(self.log(), log).unwrap();
        }
        held(&self.truth).rebooted(self.host.snapshot());
        self.restart();
    }

    /// The store is closed once nobody has its lock.
    fn wait_for_the_lock(self: &Arc<Self>) {
        drop(self.open());
        self.close();
    }
}

/// The part of a log's header that changes when it begins anew (the salts, in the file format's section 4.1).
fn salt(log: &[u8]) -> Vec<u8> {
    log.get(16..24).unwrap_or_default().to_vec()
}

/// What was thrown, in words.
pub fn words(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
    let told = cause.downcast_ref::<Broken>().map(|broken| broken.0.clone());
    told.or(text).unwrap_or_else(|| "a panic".into())
}

/// Sees each boundary of the journal.
struct Boundaries(Arc<World>);

impl Boundaries {
    fn next(&self, event: &JournalEvent) -> Option<(Uuid, Meanwhile)> {
        let mut plan = held(&self.0.plan);
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
            // It is known after a loss of power what outlasts that.
            JournalEvent::Intended { action: Action::Device(step), .. } => step.outlasts_the_boot(),
            _ => false,
        };
        if synced && held(&self.0.plan).power {
            self.0.synced();
        }
        self.0.keep_store_locked();
        if let Some((subject, meanwhile)) = self.next(event) {
            self.0.meanwhile(&self.0.engine(), subject, meanwhile);
        }
    }
}
