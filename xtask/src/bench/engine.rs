//! Handover's share of a create: choose, plan, journal, workers. The kernel and QEMU are simulated.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use engine::{
    Config, CreateInstance, DeviceWish, Engine, ImageSource, ImageStatus, ImportImage,
    RegisterDevice, Silent,
};
use sim::{SimHost, SimLauncher};

use super::Figure;
use super::host::WithWorkers;

const RUNS: usize = 50;

/// Each measurement has its own directory.
static TURN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Creates and deletes an instance with a GPU and its audio function repeatedly.
pub fn create() -> Result<String> {
    let folder = Folder::make()?;
    let sim = Arc::new(SimHost::new(sim::workstation()));
    let launcher = Arc::new(SimLauncher::new(sim.clone()));
    let host = Arc::new(WithWorkers::new(sim)?);
    let config = Config {
        state_dir: folder.0.join("state"),
        image_dirs: vec![folder.0.clone()],
        block_dirs: Vec::new(),
        image_limits: engine::ImageLimits::default(),
        machine_uids: 1_900_000_000..1_900_000_010,
        shutdown_grace: Duration::from_secs(1),
        journal_timeout: engine::JOURNAL_TIMEOUT,
        journal_kept: engine::JournalKept::default(),
        guest_init: None,
    };
    let engine = Engine::open(config, host, vec![launcher], Arc::new(Silent))
        .map_err(|refusal| anyhow!(refusal))?;
    engine.recover()?;
    engine.devices().register(RegisterDevice {
        address: "0000:01:00.0".into(),
        name: Some("gpu".into()),
        ..RegisterDevice::default()
    })?;
    image(&engine, &folder.0)?;
    let request = CreateInstance {
        name: "bench".into(),
        image: Some("image".into()),
        devices: vec![DeviceWish::Registered("gpu".into())],
        ..CreateInstance::default()
    };
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        engine.instances().create(request.clone())?;
        times.push(began.elapsed());
        engine.instances().delete("bench")?;
    }
    let limit =
        format!("one synchronous write to this disk takes {:.2} ms", synchronous_write(&folder.0)?);
    let figure = Figure {
        what: "Handover's share of a create (GPU and audio)".into(),
        goal: "under 20 ms",
        limit,
        times,
    };
    Ok(figure.line())
}

/// Imports a minimal kernel: the header of a bzImage (Documentation/arch/x86/boot.rst).
pub(super) fn image(engine: &Engine, folder: &Path) -> Result<()> {
    let path = folder.join("kernel");
    let mut header = vec![0u8; 0x1fe];
    header.extend(b"\x55\xaa\0\0HdrS");
    header.resize(4096, 0);
    std::fs::write(&path, header)?;
    engine.images().import(ImportImage {
        name: "image".into(),
        kernel: Some(ImageSource::Path(path)),
        ..ImportImage::default()
    })?;
    for _ in 0..500 {
        let image = engine.images().find("image")?;
        match image.status {
            ImageStatus::Ready => return Ok(()),
            ImageStatus::Failed => return Err(anyhow!("{image:?}")),
            ImageStatus::Pending | ImageStatus::Pulling | ImageStatus::Converting => {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    Err(anyhow!("the image is not ready after five seconds"))
}

/// The median time of a synchronous 4 KiB write, in milliseconds. It overwrites existing data, as SQLite does with its
/// log, because growing a file costs more.
pub(super) fn synchronous_write(folder: &Path) -> Result<f64> {
    let path = folder.join("sync");
    std::fs::write(&path, vec![0; 4096 * RUNS])?;
    let mut file = File::options().write(true).open(path)?;
    file.sync_all()?;
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

/// A directory on a real disk, removed when dropped.
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
