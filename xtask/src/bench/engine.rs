//! Our own part of a create: choose, plan, journal, workers. The kernel and QEMU are the simulation.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use engine::{
    Config, CreateInstance, Engine, ImageSource, ImageStatus, ImportImage, RegisterDevice, Silent,
};
use host::worker::{PoolConfig, WorkerCommand, WorkerPool};
use model::{
    Address, AsFound, Capacity, Checked, Holder, Host, HostError, Inventory, LinkBaseline, Lock,
    NodeAccess, Observed, Step, VfSettings,
};
use sim::{SimHost, SimLauncher};

use super::Figure;

const RUNS: usize = 50;

/// Each measurement has a folder of its own.
static TURN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// The simulated host, where every step also goes to a worker process and back.
pub(super) struct WithWorkers {
    sim: Arc<SimHost>,
    pool: WorkerPool,
}

impl WithWorkers {
    pub(super) fn new(sim: Arc<SimHost>) -> Result<Self> {
        let pool = WorkerPool::new(PoolConfig::new(WorkerCommand::this_executable()));
        pool.warm()?;
        Ok(Self { sim, pool })
    }

    fn trip(&self) -> Result<(), HostError> {
        let step = || "a round trip".to_owned();
        self.pool
            .round_trip()
            .map_err(|failure| HostError::Worker { step: step(), reason: failure.to_string() })
    }
}

impl Host for WithWorkers {
    fn boot_id(&self) -> Result<String, HostError> {
        self.sim.boot_id()
    }

    fn inventory(&self) -> Result<Inventory, HostError> {
        self.sim.inventory()
    }

    fn as_found(&self, addresses: &[Address]) -> Result<Vec<AsFound>, HostError> {
        addresses.iter().try_for_each(|_| self.trip())?;
        self.sim.as_found(addresses)
    }

    fn complete(&self, inventory: &mut Inventory, addresses: &[Address]) {
        // Where a worker fails, the next step says so.
        let _ = self.trip();
        self.sim.complete(inventory, addresses);
    }

    fn vf_settings(&self, parent: Address, index: u16) -> Result<VfSettings, HostError> {
        self.trip()?;
        self.sim.vf_settings(parent, index)
    }

    fn check(&self, address: Address, link: Option<LinkBaseline>) -> Result<Checked, HostError> {
        self.trip()?;
        self.sim.check(address, link)
    }

    fn group_nodes(&self, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError> {
        self.sim.group_nodes(groups)
    }

    fn holders(&self, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
        self.sim.holders(addresses)
    }

    fn observe(&self, step: &Step) -> Result<Observed, HostError> {
        if matches!(step, Step::SetOverride { .. }) {
            self.trip()?;
        }
        self.sim.observe(step)
    }

    fn perform(&self, step: &Step) -> Result<(), HostError> {
        self.trip()?;
        self.sim.perform(step)
    }

    fn is_locked(&self, lock: &Lock) -> Result<bool, HostError> {
        self.sim.is_locked(lock)
    }

    fn capacity(&self) -> Result<Capacity, HostError> {
        self.sim.capacity()
    }
}

/// Creates and deletes an instance with a GPU and its audio function, again and again.
pub fn create() -> Result<String> {
    let folder = Folder::make()?;
    let sim = Arc::new(SimHost::new(sim::workstation()));
    let launcher = Arc::new(SimLauncher::new(sim.clone()));
    let host = Arc::new(WithWorkers::new(sim)?);
    let config = Config {
        state_dir: folder.0.join("state"),
        image_dirs: vec![folder.0.clone()],
        machine_uids: 1_900_000_000..1_900_000_010,
        shutdown_grace: Duration::from_secs(1),
    };
    let engine = Engine::open(config, host, vec![launcher], Arc::new(Silent))
        .map_err(|refusal| anyhow!(refusal))?;
    engine.recover()?;
    engine.register_device(RegisterDevice {
        address: "0000:01:00.0".into(),
        name: Some("gpu".into()),
        ..RegisterDevice::default()
    })?;
    image(&engine, &folder.0)?;
    let request = CreateInstance {
        name: "bench".into(),
        image: "image".into(),
        devices: vec!["gpu".into()],
        ..CreateInstance::default()
    };
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        engine.create_instance(request.clone())?;
        times.push(began.elapsed());
        engine.delete_instance("bench")?;
    }
    let limit =
        format!("one synchronous write to this disk takes {:.2} ms", synchronous_write(&folder.0)?);
    let figure = Figure {
        what: "our own part of a create (GPU and audio)",
        goal: "under 20 ms",
        limit,
        times,
    };
    Ok(figure.line())
}

/// Imports the smallest kernel there is: the header of a bzImage (Documentation/arch/x86/boot.rst).
fn image(engine: &Engine, folder: &Path) -> Result<()> {
    let path = folder.join("kernel");
    let mut header = vec![0u8; 0x1fe];
    header.extend(b"\x55\xaa\0\0HdrS");
    header.resize(4096, 0);
    std::fs::write(&path, header)?;
    engine.import_image(ImportImage {
        name: "image".into(),
        kernel: Some(ImageSource::Path(path)),
        ..ImportImage::default()
    })?;
    for _ in 0..500 {
        let image = engine.image("image")?;
        match image.status {
            ImageStatus::Ready => return Ok(()),
            ImageStatus::Failed => return Err(anyhow!("{image:?}")),
            ImageStatus::Pending | ImageStatus::Converting => {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    Err(anyhow!("the image is not ready after five seconds"))
}

/// The median of writing 4 KiB and waiting for the disk, in milliseconds.
pub(super) fn synchronous_write(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort();
    times.get(RUNS / 2).map(|time| time.as_secs_f64() * 1e3).context("no times")
}

/// A folder on the disk that holds the user's caches, removed at the end.
pub(super) struct Folder(pub(super) std::path::PathBuf);

impl Folder {
    pub(super) fn make() -> Result<Self> {
        let turn = TURN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("target/bench-{}-{turn}", std::process::id());
        let path = std::path::PathBuf::from(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path.canonicalize()?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
