//! The number of disk syncs of a claim and its release, counted with strace if it is installed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sim::SimHost;

use super::claims;
use super::engine::Folder;

/// More claims than fit into the store's log, so that checkpoints are included.
const FEW: usize = 20;
const MANY: usize = 120;

/// Claims and releases one device `times` times, for external tracing.
///
/// # Errors
/// If a claim fails.
pub fn verbs(times: usize) -> Result<()> {
    let folder = Folder::make()?;
    let sim = Arc::new(SimHost::new(sim::workstation()));
    claims::verbs(&folder.0, &sim, claims::NIC, times, |_, _| {})
}

/// Counts for few and for many claims, so that the cost of opening the store cancels out.
pub(super) fn counted() -> Result<String> {
    const WHAT: &str = "synchronous writes in a claim and its release";
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return Ok(format!(
            "{WHAT}: not counted, because strace is not installed (goal: 2, one each)"
        ));
    }
    let folder = Folder::make()?;
    let trace = folder.0.join("trace");
    let (few, many) = (of(FEW, &trace)?, of(MANY, &trace)?);
    let each = (many as f64 - few as f64) / (MANY - FEW) as f64;
    Ok(format!(
        "{WHAT}: {each:.2} (goal: 2, one each)\n    limit: 2; what is more is the store's log, written back to its file each \
         1000 pages"
    ))
}

/// The number of synchronous writes of a process with `times` claims.
fn of(times: usize, trace: &Path) -> Result<usize> {
    let own = std::env::current_exe()?;
    let status = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=fsync,fdatasync,sync_file_range",
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(trace)
        .arg(own)
        .args(["bench-verbs", &times.to_string()])
        .status()
        .context("running strace")?;
    ensure!(status.success(), "the claims under strace failed: {status}");
    let text = std::fs::read_to_string(trace)?;
    Ok(text.lines().filter(|line| line.contains("sync(") && !line.contains("resumed")).count())
}
