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

/// Whether a module is loaded and initialized: its directory appears before its init function has run (`initstate`,
/// `show_initstate` in kernel/module/main.c). Built-in modules have no such file.
pub fn is_loaded(root: &Root, module: &str) -> bool {
    module_present(root, module)
        && root
            .attribute(&format!("sys/module/{module}/initstate"))
            .map_or(true, |state| state == "live")
}

/// Loads a module with kmod's `modprobe`, which applies the administrator's options. A blacklist does not stop it: it
/// covers aliases only, and this loads by name.
pub fn load(root: &Root, module: &str) -> Result<(), HostError> {
    check_name(root, "module", module)?;
    modprobe(root, module)
}

/// Loads the module for a function by its modalias, as udev does when the function appears. If there is none, the bind
/// that follows fails with an error.
pub fn load_for(root: &Root, address: Address) {
    let Ok(modalias) = root.text(&format!("{DEVICES}/{address}/modalias")) else { return };
    if modalias.starts_with("pci:")
        && let Err(error) = modprobe(root, &modalias)
    {
        tracing::debug!(%address, %error, "cannot load a module for the function");
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
    // The worker's own input is the daemon's socket, which modprobe must not inherit.
    let output = Command::new("modprobe").args(["--", name]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        let reason = format!("cannot run modprobe: {error}; install the package kmod");
        failed(reason, error.raw_os_error())
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("modprobe failed without a message").trim();
    Err(failed(said.chars().take(300).collect(), None))
}

/// The error for a driver that is not loaded, with a remedy.
pub fn no_driver(root: &Root, driver: &str, path: &str) -> HostError {
    let module = driver.replace('-', "_");
    let reason = format!("driver {driver} is not loaded; run `modprobe {module}`");
    problem::because(root, "use", path, Errno::NOENT, reason)
}
