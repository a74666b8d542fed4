//! The directory of a function in sysfs: looking into it and writing to it.

use model::{Address, HostError, PowerControl};
use rustix::io::Errno;

use crate::problem;
use crate::root::{Dir, Root};

/// Where the functions' links are.
pub const DEVICES: &str = "sys/bus/pci/devices";

/// The directory of a function; `None` where it is gone.
pub fn directory(root: &Root, address: Address) -> Result<Option<Dir>, HostError> {
    let path = format!("{DEVICES}/{address}");
    match root.dir(&path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(errno) => Err(problem::file(root, "look into", &path, errno)),
    }
}

/// The directory of a function that must be there.
pub fn existing(root: &Root, address: Address) -> Result<Dir, HostError> {
    directory(root, address)?.ok_or(HostError::Gone { address })
}

/// The driver that has a function.
pub fn driver(dir: &Dir) -> Result<Option<String>, Errno> {
    match dir.link_name("driver") {
        Ok(name) => Ok(Some(name)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The override that is set; the kernel prints a null pointer as `(null)`.
pub fn driver_override(dir: &Dir) -> Result<Option<String>, Errno> {
    let text = dir.text("driver_override")?;
    Ok(Some(text).filter(|text| !text.is_empty() && text != "(null)"))
}

/// `power/control`, where it can be read.
pub fn power(dir: &Dir) -> Option<PowerControl> {
    match dir.text("power/control").ok()?.as_str() {
        "auto" => Some(PowerControl::Auto),
        "on" => Some(PowerControl::On),
        _ => None,
    }
}

/// The driver that has a function.
pub fn bound(root: &Root, dir: &Dir, address: Address) -> Result<Option<String>, HostError> {
    driver(dir)
        .map_err(|errno| problem::file(root, "read", &format!("{DEVICES}/{address}/driver"), errno))
}

/// The driver that has the function at an address now.
pub fn bound_now(root: &Root, address: Address) -> Result<Option<String>, HostError> {
    bound(root, &existing(root, address)?, address)
}

/// Writes to a file that belongs to a function. A file that is gone with its function is told as that.
pub fn write(root: &Root, address: Address, path: &str, value: &str) -> Result<(), HostError> {
    root.write(path, value).map_err(|errno| {
        let gone = matches!(errno, Errno::NOENT | Errno::NODEV)
            && !root.exists(&format!("{DEVICES}/{address}"));
        if gone {
            return HostError::Gone { address };
        }
        problem::file(root, format!("write {:?} to", value.trim_end()), path, errno)
    })
}

/// Refuses a name that could lead a path astray. Drivers and modules are named like this.
pub fn check_name(root: &Root, what: &str, name: &str) -> Result<(), HostError> {
    let right = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if right {
        return Ok(());
    }
    let reason = format!("{name:?} cannot be the name of a {what}");
    Err(problem::because(root, "look for", "sys", Errno::INVAL, reason))
}
