//! The cost of one uevent on a host with 10000 functions: Handover's time until the inventory is up to date.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use host::uevent::Uevent;
use host::{Live, Root};

use super::Figure;
use crate::tree::{self, ProcessCounts, Shape};

const FUNCTIONS: usize = 10_000;
const RUNS: usize = 501;

/// The attributes that are always read of a function.
const ATTRIBUTES: [&str; 9] = [
    "modalias",
    "revision",
    "numa_node",
    "resource",
    "reset_method",
    "power_state",
    "power/runtime_status",
    "power/control",
    "d3cold_allowed",
];

/// Binds a function to another driver repeatedly, and applies the uevent.
///
/// # Errors
/// If the tree cannot be written or read, or an uevent has no effect.
pub fn applied() -> Result<String> {
    let folder = tempfile::tempdir().context("a folder for the tree")?;
    let shape = Shape { functions: FUNCTIONS, whole: true, processes: ProcessCounts::default() };
    tree::write(folder.path(), shape)?;
    let live = Live::read(Root::open(folder.path())?)?;
    let inventory = live.snapshot();
    ensure!(inventory.functions.len() == FUNCTIONS, "the tree has another size");
    let middle = inventory.functions.values().nth(FUNCTIONS / 2).context("no function")?;
    let link = folder.path().join(format!("sys/bus/pci/devices/{}", middle.address));
    let place = fs::canonicalize(&link)?;
    drop(inventory);

    let event = event(folder.path(), &place)?;
    let (mut times, mut limits) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        bind(&place, if run % 2 == 0 { "one" } else { "other" })?;
        let began = Instant::now();
        let changes = live.apply(std::slice::from_ref(&event));
        times.push(began.elapsed());
        ensure!(changes.len() == 1, "a change was not seen: {changes:?}");
        limits.push(bare(&place));
    }
    limits.sort();
    let limit = limits.get(RUNS / 2).copied().unwrap_or_default();
    let figure = Figure {
        what: "an uevent applied, of 10000 functions".into(),
        goal: "under 1 ms",
        limit: format!(
            "reading {} attributes of the function takes {:.3} ms",
            ATTRIBUTES.len(),
            limit.as_secs_f64() * 1e3
        ),
        times,
    };
    Ok(figure.line())
}

fn event(top: &Path, place: &Path) -> Result<Uevent> {
    let below = place.strip_prefix(fs::canonicalize(top)?.join("sys"))?;
    let message = format!("bind@/{}\0SUBSYSTEM=pci\0", below.display());
    Uevent::parse(message.as_bytes()).context("no uevent")
}

fn bind(place: &Path, driver: &str) -> Result<()> {
    let link = place.join("driver");
    if fs::symlink_metadata(&link).is_ok() {
        fs::remove_file(&link)?;
    }
    symlink(PathBuf::from("../../../bus/pci/drivers").join(driver), &link)?;
    Ok(())
}

/// The plain loop: only opens and reads.
fn bare(place: &Path) -> Duration {
    let began = Instant::now();
    for name in ATTRIBUTES {
        // Missing attributes are also tried.
        let _ = fs::read(place.join(name));
    }
    let _ = (fs::read_link(place.join("driver")), fs::read_link(place.join("iommu_group")));
    began.elapsed()
}
