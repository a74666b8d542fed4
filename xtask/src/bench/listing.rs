//! The cost of a listing, compared with `lspci`, `lstopo` and a plain loop that only opens and reads files.
//!
//! All read the same trees in turns, so that other load affects them equally.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::tree::{self, ProcessCounts, Shape};

/// The number of rounds for each tree size.
const ROUNDS: [(usize, usize); 3] = [(50, 31), (500, 21), (10_000, 7)];

/// The processes of trees with processes.
const PROCESSES: ProcessCounts = ProcessCounts { processes: 500, files: 50 };

/// The system's device names, which the plain loop reads as well.
const NAMES: &str = "usr/share/misc/pci.ids";

const GOALS: &str = "goals: at most 1.5 times the limit, a third of lspci and a tenth of lstopo from 500 functions on; 5 ms at 50";

/// A program to measure.
struct Rival {
    name: &'static str,
    command: Command,
    times: Vec<Duration>,
}

/// Measures on generated trees and on this machine, and prints a table row by row.
///
/// # Errors
/// If a tree cannot be written, the plain loop cannot be compiled or a program fails.
pub fn run(handover: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the trees")?;
    let limit = compile(folder.path())?;
    println!("handover ls --json, compared with others on the same tree (medians, ms)");
    let heading = ["functions", "handover", "limit", "lspci", "lstopo", "our ratios to them"];
    println!("{}", row(heading.map(str::to_owned)));
    for (functions, rounds) in ROUNDS {
        let top = folder.path().join("tree");
        std::fs::create_dir(&top)?;
        tree::write(&top, Shape { functions, whole: true, processes: PROCESSES })?;
        copy_names(&top)?;
        let what = format!("{functions} + holders");
        println!("{}", compare(handover, &limit, &top, what, rounds)?);
        // The same tree without its processes: writing another one takes minutes.
        remove_processes(&top)?;
        println!("{}", compare(handover, &limit, &top, functions.to_string(), rounds)?);
        std::fs::remove_dir_all(&top)?;
    }
    println!("{}", compare(handover, &limit, Path::new("/"), "this machine".into(), 31)?);
    println!("{GOALS}");
    Ok(())
}

/// One row: each program in turn, `rounds` times.
fn compare(
    handover: &Path,
    limit: &Path,
    top: &Path,
    what: String,
    rounds: usize,
) -> Result<String> {
    let mut rivals = rivals(handover, limit, top);
    // The first round only fills the page cache.
    for round in 0..=rounds {
        for rival in &mut rivals {
            let time = rival.run()?;
            if round > 0 {
                rival.times.extend(time);
            }
        }
    }
    let medians: Vec<Option<f64>> = rivals.iter_mut().map(Rival::median).collect();
    let cell = |time: &Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1}"));
    let ours = medians.first().copied().flatten().unwrap_or_default();
    let ratios: Vec<String> = rivals
        .iter()
        .zip(&medians)
        .skip(1)
        .filter_map(|(rival, median)| Some(format!("{:.2} {}", ours / (*median)?, rival.name)))
        .collect();
    let mut cells: Vec<String> = vec![what];
    cells.extend(medians.iter().map(cell));
    cells.push(ratios.join(", "));
    Ok(row(cells))
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    let widths = [18, 10, 10, 10, 10, 0];
    let cells = cells.into_iter().zip(widths);
    cells.map(|(cell, width)| format!("{cell:<width$}")).collect()
}

fn rivals(handover: &Path, limit: &Path, top: &Path) -> Vec<Rival> {
    let mut ours = Command::new(handover);
    ours.args(["ls", "--all", "--json", "--root"]).arg(top);
    let mut bare = Command::new(limit);
    bare.arg(top);
    if top.join("proc/1000").exists() || top == Path::new("/") {
        bare.arg("holders");
    }
    let mut lspci = Command::new("lspci");
    let path = top.join("sys/bus/pci");
    lspci.args(["-A", "linux-sysfs", "-Dvmmnnk", "-O"]);
    lspci.arg(format!("sysfs.path={}", path.display()));
    let mut lstopo = Command::new("lstopo-no-graphics");
    lstopo.args(["--whole-io", "--of", "xml"]);
    if top != Path::new("/") {
        lstopo.env("HWLOC_FSROOT", top).env("HWLOC_COMPONENTS", "linux,stop");
    }
    [("handover", ours), ("limit", bare), ("lspci", lspci), ("lstopo", lstopo)]
        .map(|(name, command)| Rival { name, command, times: Vec::new() })
        .into()
}

impl Rival {
    /// One run, from start to exit of the process; `None` if the program is not installed.
    fn run(&mut self) -> Result<Option<Duration>> {
        self.command.stdin(Stdio::null()).stdout(File::create("/dev/null")?).stderr(Stdio::null());
        let begin = Instant::now();
        let status = match self.command.status() {
            Ok(status) => status,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(self.name),
        };
        let time = begin.elapsed();
        ensure!(status.success(), "{} failed: {status}", self.name);
        Ok(Some(time))
    }

    fn median(&mut self) -> Option<f64> {
        self.times.sort();
        self.times.get(self.times.len() / 2).map(|time| time.as_secs_f64() * 1e3)
    }
}

fn remove_processes(top: &Path) -> Result<()> {
    for entry in std::fs::read_dir(top.join("proc"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(|digit: char| digit.is_ascii_digit()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// All programs use the same file of names.
fn copy_names(top: &Path) -> Result<()> {
    let to = top.join(NAMES);
    std::fs::create_dir_all(to.parent().context("a folder")?)?;
    if let Err(error) = std::fs::copy(Path::new("/").join(NAMES), to) {
        println!("(no names of devices: /{NAMES}: {error})");
    }
    Ok(())
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let limit = folder.join("limit");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/limit.c");
    let status = Command::new("cc").args(["-O2", "-o"]).arg(&limit).arg(source).status();
    ensure!(status.context("cc")?.success(), "bench/limit.c does not compile");
    Ok(limit)
}
