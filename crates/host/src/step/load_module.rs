//! Loading kernel modules.

use std::process::{Command, Stdio};

use model::{Address, HostError, Observed};
use rustix::io::Errno;

use crate::function_files::{DEVICES, check_name};
use crate::inventory::module_present;
use crate::problem;
use crate::root::Root;

/// Whether a module is loaded or built in.
pub fn observe(root: &Root, module: &str) -> Observed {
    if module_present(root, module) { Observed::After } else { Observed::Before }
}

/// Whether a module is there and has nothing more to do: its directory comes before its own beginning has run
/// (`initstate`, `show_initstate` in kernel/module/main.c). What is built in has no such file.
pub fn is_loaded(root: &Root, module: &str) -> bool {
    module_present(root, module)
        && root
            .attribute(&format!("sys/module/{module}/initstate"))
            .map_or(true, |state| state == "live")
}

/// Loads a module with kmod's `modprobe`, which heeds the administrator's options; a blacklist is for aliases, and
/// this module is asked for by name.
pub fn load(root: &Root, module: &str) -> Result<(), HostError> {
    check_name(root, "module", module)?;
    modprobe(root, module)
}

/// Loads whatever module claims a function, as the kernel has udev do when the function appears. Where there is none,
/// the bind that follows says so.
pub fn load_for(root: &Root, address: Address) {
    let Ok(modalias) = root.text(&format!("{DEVICES}/{address}/modalias")) else { return };
    if modalias.starts_with("pci:")
        && let Err(error) = modprobe(root, &modalias)
    {
        tracing::debug!(%address, %error, "no module for a function");
    }
}

fn modprobe(root: &Root, name: &str) -> Result<(), HostError> {
    let failed = |reason: String, errno: Option<i32>| HostError::File {
        action: "load".into(),
        path: format!("the module {name}"),
        reason,
        errno,
    };
    if !root.is_host() {
        let reason = format!("{} is not the running system", root.path().display());
        return Err(failed(reason, Some(Errno::NOSYS.raw_os_error())));
    }
    // The worker's own input is the daemon's socket: none of modprobe's business.
    let output = Command::new("modprobe").args(["--", name]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        let reason = format!("modprobe cannot be run ({error}); install the package kmod");
        failed(reason, error.raw_os_error())
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("modprobe gave no reason").trim();
    Err(failed(said.chars().take(300).collect(), None))
}

/// A driver that is not there to bind to: why, and what to do.
pub fn no_driver(root: &Root, driver: &str, path: &str) -> HostError {
    let module = driver.replace('-', "_");
    let reason = format!("there is no driver {driver}: `modprobe {module}` loads it");
    problem::because(root, "use", path, Errno::NOENT, reason)
}
