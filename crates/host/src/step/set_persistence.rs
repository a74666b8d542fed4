//! The persistence mode of one NVIDIA GPU: with it on, the driver keeps the GPU in use, and an unbind waits.

use model::{Address, HostError, Observed};

use crate::function_files::{directory, driver};
use crate::root::Root;
use crate::{problem, program};

const PROGRAM: &str = "nvidia-smi";
const PACKAGE: &str = "NVIDIA's utilities of the driver's version";

/// What is missing where it has no such mode.
pub const MISSING: &str = "it without NVIDIA's driver";

/// What the driver says of it. A driver that does not tell leaves it as it was before.
pub fn observe(root: &Root, address: Address, to: bool) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    // Without NVIDIA's driver the GPU has no such mode.
    if driver(&dir).ok().flatten().as_deref() != Some("nvidia") {
        return Ok(Observed::Absent);
    }
    let path = path(root)?;
    let gpu = address.to_string();
    let query = ["--query-gpu=persistence_mode", "--format=csv,noheader", "-i", &gpu];
    let ran = program::run(root, &path, &query)?;
    if !ran.well {
        let reason = format!("it does not know {address}: {}", ran.words);
        return Err(problem::because(root, "ask", &path, rustix::io::Errno::IO, reason));
    }
    Ok(match ran.output.as_str() {
        "Enabled" if to => Observed::After,
        "Disabled" if !to => Observed::After,
        _ => Observed::Before,
    })
}

/// Switches it, for this GPU alone.
pub fn set(root: &Root, address: Address, to: bool) -> Result<(), HostError> {
    let path = path(root)?;
    let ran = program::run(
        root,
        &path,
        &["-i", &address.to_string(), "-pm", if to { "1" } else { "0" }],
    )?;
    if ran.well {
        return Ok(());
    }
    let action = format!("switch persistence mode of {address} with");
    Err(problem::because(root, action, &path, rustix::io::Errno::IO, ran.words))
}

fn path(root: &Root) -> Result<String, HostError> {
    program::find(root, PROGRAM).ok_or_else(|| program::missing(root, PROGRAM, PACKAGE))
}
