//! Loads kernel modules for the devices that are there, from the image's own modules or those of the modules disk.
//!
//! The image needs no `modprobe`. What it says in `modprobe.d` counts: blacklists and options, but no commands.

mod devices;
mod kernel;
mod nvidia;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use self::kernel::Kernel;
use crate::{console, path_of};

/// What the kernel says before the name of a module that it wants (`call_modprobe` in kernel/module/kmod.c).
pub const WANTED: [&str; 2] = ["-q", "--"];

/// New devices appear when a bus has its driver; this often it is looked again.
const MOST_ROUNDS: usize = 4;

/// Loads modules for all devices that have no driver. What fails is said on the console.
pub fn load_for_devices() {
    // Where all devices have drivers, what depmod wrote is not read: it is long.
    let mut opened = None;
    let mut seen = BTreeSet::new();
    for _ in 0..MOST_ROUNDS {
        let new: Vec<String> = devices::without_driver(Path::new("/sys/bus"))
            .into_iter()
            .filter(|alias| seen.insert(alias.clone()))
            .collect();
        if new.is_empty() {
            break;
        }
        if opened.is_none() {
            opened = Kernel::open();
        }
        let Some(kernel) = &mut opened else { return };
        for alias in &new {
            for failure in kernel.load_for(alias) {
                console::say(&failure);
            }
        }
    }
    if let Some(kernel) = &mut opened {
        nvidia::complete(kernel);
    }
}

/// Lets the kernel ask this executable for modules, unless the image has a `modprobe` of its own.
pub fn answer_the_kernel() {
    let setting = "/proc/sys/kernel/modprobe";
    let own = std::fs::read_to_string(setting).unwrap_or_default();
    if !Path::new(own.trim()).exists() {
        let _ = std::fs::write(setting, path_of::FIRST_PROCESS);
    }
}

/// Loads what the kernel asks for, by a name or an alias.
pub fn load_wanted(name: &str) -> ExitCode {
    let loaded = Kernel::open().map(|mut kernel| kernel.load_for(name));
    if loaded.is_some_and(|failures| failures.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
