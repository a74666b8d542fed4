//! The persistence mode of one NVIDIA GPU: while it is on, the driver keeps the GPU in use, and an unbind waits.

use model::{Address, HostError, Observed};

use crate::function_files::{directory, driver};
use crate::root::Root;
use crate::{problem, program};

const PROGRAM: &str = "nvidia-smi";
const PACKAGE: &str = "NVIDIA's utilities of the driver's version";

/// Describes a GPU without the mode.
pub const MISSING: &str = "no nvidia driver bound";

/// Asks the driver for the mode. An answer other than on or off counts as before.
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
        let action = format!("query persistence mode of {address} with");
        return Err(problem::because(root, action, &path, rustix::io::Errno::IO, ran.words));
    }
    Ok(match ran.output.as_str() {
        "Enabled" if to => Observed::After,
        "Disabled" if !to => Observed::After,
        _ => Observed::Before,
    })
}

/// Switches the mode, for this GPU only.
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
