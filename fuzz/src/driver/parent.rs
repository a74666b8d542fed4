//! The process that starts one process per target, and reports.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, bail};

use super::found::{HUNG, name_of};
use crate::{Target, seeds};

/// The directory of a target's failing inputs.
fn failures(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz").join(target.name)
}

/// Runs targets one after another, each for some seconds. Returns the number of failures.
///
/// # Errors
/// A process cannot be started.
pub fn run(targets: &[&Target], seconds: u64, seed: u64) -> anyhow::Result<usize> {
    println!("seed {seed}");
    let mut failed = 0;
    for target in targets {
        let folder = failures(target);
        let known = saved(&folder)?;
        let status = Command::new(std::env::current_exe()?)
            .args(["work", target.name, "--seconds", &seconds.to_string()])
            .args(["--seed", &seed.to_string()])
            .arg("--folder")
            .arg(&folder)
            .status()
            .context("cannot start the target's process")?;
        if !status.success() {
            killed(target, &folder, status)?;
        }
        for path in saved(&folder)?.into_iter().filter(|path| !known.contains(path)) {
            failed += 1;
            report(target, &path);
        }
    }
    Ok(failed)
}

/// The input that killed the target's process, or hung it, is saved like any other.
fn killed(target: &Target, folder: &Path, status: ExitStatus) -> anyhow::Result<()> {
    let record = fs::read(folder.join("current")).context("the target's process failed")?;
    let (length, rest) = record.split_first_chunk::<8>().context("the target's process failed")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let input = rest.get(..length.min(rest.len())).unwrap_or_default();
    let how = if status.code() == Some(HUNG) { "hung".to_owned() } else { status.to_string() };
    println!("{}: FAILED: {how}", target.name);
    fs::write(folder.join(name_of(input)), input).context("cannot save a failing input")
}

fn saved(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| !path.ends_with("current")).collect())
}

fn report(target: &Target, path: &Path) {
    let (name, path) = (target.name, fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
    println!("  replay it:  cargo run -p fuzz -- replay {name} {}", path.display());
    println!(
        "  when it is mended, keep it:  cp {} {}/",
        path.display(),
        seeds::folder(target).display()
    );
}

/// Reads one input, without catching anything.
///
/// # Errors
/// The file cannot be read.
pub fn replay(target: &Target, file: &Path) -> anyhow::Result<()> {
    let input = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    if input.len() > target.longest {
        bail!("{} is longer than the target's inputs ({} bytes)", file.display(), target.longest);
    }
    println!("{:?}", (target.read)(&input));
    Ok(())
}
