//! What NVIDIA's driver needs besides its module: two more modules that no device asks for, and device nodes that the
//! kernel does not make. Elsewhere `nvidia-modprobe`, a program with the set-uid bit, does it, which images lack.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mknodat};

use super::kernel::Kernel;
use crate::console;

/// The major number of the driver (`NV_MAJOR_DEVICE_NUMBER` in its kernel-open/nvidia/nv-chrdev.h).
const MAJOR: u32 = 195;

/// Completes the driver if it has found devices.
pub fn complete(kernel: &mut Kernel) {
    let gpus = fs::read_dir("/proc/driver/nvidia/gpus");
    let Ok(gpus) = gpus.map(Iterator::count) else { return };
    for module in ["nvidia_uvm", "nvidia_modeset"] {
        if let Err(failure) = kernel.load(module) {
            console::say(&failure);
        }
    }
    node("nvidiactl", MAJOR, 255);
    node("nvidia-modeset", MAJOR, 254);
    for number in 0..u32::try_from(gpus).unwrap_or(0) {
        node(&format!("nvidia{number}"), MAJOR, number);
    }
    let devices = fs::read_to_string("/proc/devices").unwrap_or_default();
    if let Some(major) = major_of(&devices, "nvidia-uvm") {
        node("nvidia-uvm", major, 0);
        node("nvidia-uvm-tools", major, 1);
    }
}

/// Makes a device node that all users may use, as `nvidia-modprobe` does.
fn node(name: &str, major: u32, minor: u32) {
    let path = Path::new("/dev").join(name);
    if path.exists() {
        return;
    }
    let all = Mode::from_raw_mode(0o666);
    let made = mknodat(CWD, &path, FileType::CharacterDevice, all, makedev(major, minor));
    if let Err(errno) = made.and_then(|()| chmod(&path, all)) {
        console::say(&format!("cannot make {}: {errno}", path.display()));
    }
}

/// The major number of a driver in `/proc/devices`.
fn major_of(devices: &str, driver: &str) -> Option<u32> {
    devices.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (name.trim() == driver).then(|| number.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_found_by_name() {
        let devices = "Character devices:\n  1 mem\n195 nvidia\n511 nvidia-uvm\n\nBlock devices:\n 259 blkext\n";
        assert_eq!(major_of(devices, "nvidia-uvm"), Some(511));
        assert_eq!(major_of(devices, "nvidia-caps"), None);
    }
}
