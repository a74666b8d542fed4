//! A simulated host with an engine, which can be killed and reopened.

#![allow(dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use engine::{
    ClaimRequest, Config, CreateInstance, DeviceWish, Engine, ImageSource, ImageStatus,
    ImportImage, JournalEvent, Observer, RecoveryReport, RegisterDevice,
};
use model::{Address, Claim, Code, DiskFormat, Owner, Refusal};
use sim::{SimHost, SimLauncher, Snapshot};

pub const GPU: &str = "0000:01:00.0";
pub const GPU_AUDIO: &str = "0000:01:00.1";
pub const AMD: &str = "0000:02:00.0";
pub const NIC: &str = "0000:03:00.0";
pub const NVME: &str = "0000:04:00.0";

/// The panic payload of a simulated crash.
struct Crash;

/// Crashes the engine at a boundary of the journal.
pub struct Killer {
    left: AtomicI64,
}

impl Killer {
    pub fn never() -> Arc<Self> {
        Self::after(i64::MAX)
    }

    pub fn after(boundaries: i64) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(boundaries) })
    }
}

impl Observer for Killer {
    fn reached(&self, _event: &JournalEvent) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            std::panic::resume_unwind(Box::new(Crash));
        }
    }
}

pub struct Rig {
    pub host: Arc<SimHost>,
    pub launcher: Arc<SimLauncher>,
    pub dir: tempfile::TempDir,
    pub image_limits: engine::ImageLimits,
    pub before: Snapshot,
}

impl Rig {
    pub fn new() -> Self {
        Self::on(sim::workstation())
    }

    pub fn on(hardware: impl Into<sim::Hardware>) -> Self {
        let host = Arc::new(SimHost::new(hardware));
        let launcher = Arc::new(SimLauncher::new(host.clone()));
        let before = host.snapshot();
        let dir = tempfile::tempdir().unwrap();
        Self { host, launcher, dir, image_limits: engine::ImageLimits::default(), before }
    }

    /// A rig with an image and registered devices.
    pub fn ready() -> Self {
        Self::new().stocked()
    }

    /// The same rig with them.
    pub fn stocked(self) -> Self {
        let engine = self.open();
        self.import(&engine, "debian");
        for (name, address) in [("gpu", GPU), ("amd", AMD), ("nic", NIC), ("nvme", NVME)] {
            register(&engine, name, address).unwrap();
        }
        drop(engine);
        self
    }

    pub fn config(&self) -> Config {
        Config {
            state_dir: self.dir.path().join("state"),
            image_dirs: vec![self.dir.path().to_owned()],
            block_dirs: vec![sim::BLOCKS.into()],
            image_limits: self.image_limits,
            machine_uids: 200_000..200_100,
            shutdown_grace: Duration::from_secs(1),
            journal_timeout: engine::JOURNAL_TIMEOUT,
            journal_kept: engine::JournalKept::default(),
            guest_init: Some(self.dir.path().join("handover-guest")),
        }
    }

    pub fn open_with(&self, observer: Arc<dyn Observer>) -> Result<Engine, Refusal> {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let engine = Engine::open(
                self.config(),
                self.host.clone(),
                vec![self.launcher.clone()],
                observer.clone(),
            );
            // A thread of the crashed engine may still be exiting.
            match engine {
                Err(refusal) if refusal.code == Code::StateLocked && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(engine) => {
                    engine.limit_patience(Duration::from_millis(50));
                    return Ok(engine);
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    pub fn open(&self) -> Engine {
        self.open_with(Killer::never()).unwrap()
    }

    /// Closes an engine, and opens the state again.
    pub fn open_again(&self, engine: Engine) -> Engine {
        drop(engine);
        self.open()
    }

    pub fn open_recovered(&self) -> (Engine, RecoveryReport) {
        let engine = self.open();
        let report = engine.recover().unwrap();
        (engine, report)
    }

    /// Runs `work` with an engine that crashes at the n-th boundary; returns whether it survived.
    pub fn killed_at(&self, boundary: i64, work: impl FnOnce(&Engine)) -> bool {
        let killer = Killer::after(boundary);
        let engine = self.open_with(killer).unwrap();
        match catch_unwind(AssertUnwindSafe(|| work(&engine))) {
            Ok(()) => true,
            Err(cause) if cause.is::<Crash>() => false,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    pub fn import(&self, engine: &Engine, name: &str) {
        self.import_of(engine, name, 4096);
    }

    /// Imports an image of this size, of sevens.
    pub fn import_of(&self, engine: &Engine, name: &str, size: usize) {
        let disk = PathBuf::from(format!("{name}.raw"));
        std::fs::write(self.dir.path().join(&disk), vec![7; size]).unwrap();
        let request = ImportImage {
            name: name.into(),
            disk: Some((ImageSource::Path(disk), DiskFormat::Raw)),
            ..ImportImage::default()
        };
        engine.images().import(request).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let image = engine.images().find(name).unwrap();
            match image.status {
                ImageStatus::Ready => return,
                ImageStatus::Failed => panic!("{:?}", image.error),
                _ => assert!(Instant::now() < until, "the import does not end"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A second connection to the store.
    pub fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.config().state_dir.join("state.db")).unwrap()
    }

    pub fn assert_untouched(&self, why: &str) {
        assert_eq!(self.host.snapshot(), self.before, "{why}");
        assert!(self.launcher.running().is_empty(), "{why}: a machine runs");
        assert!(self.launcher.files().is_empty(), "{why}: files are left");
    }
}

pub fn register(engine: &Engine, name: &str, address: &str) -> Result<engine::Device, Refusal> {
    engine.devices().register(RegisterDevice {
        address: address.into(),
        name: Some(name.into()),
        ..RegisterDevice::default()
    })
}

pub fn wish(name: &str, devices: &[&str]) -> CreateInstance {
    CreateInstance {
        name: name.into(),
        image: Some("debian".into()),
        devices: devices.iter().map(|key| DeviceWish::Registered((*key).to_owned())).collect(),
        ..CreateInstance::default()
    }
}

pub fn owner(id: &str) -> Owner {
    Owner { kind: "job".into(), id: id.into() }
}

pub fn request(id: &str, wants: &[&str]) -> ClaimRequest {
    ClaimRequest::new(owner(id), wants.iter().map(|want| want.parse().unwrap()).collect())
}

pub fn claim(engine: &Engine, id: &str, wants: &[&str]) -> Claim {
    engine.claims().claim(&request(id, wants)).unwrap().claim
}

pub fn refused(engine: &Engine, id: &str, wants: &[&str]) -> Refusal {
    engine.claims().claim(&request(id, wants)).unwrap_err()
}

pub fn at(text: &str) -> Address {
    text.parse().unwrap()
}
