//! The directory of a function in sysfs: reading and writing its files.

use model::{Address, HostError, PowerControl};
use rustix::io::Errno;

use crate::problem;
use crate::root::{Dir, Root};

/// The directory of the functions' links.
pub const DEVICES: &str = "sys/bus/pci/devices";

/// The directory of a function; `None` if it is gone.
pub fn directory(root: &Root, address: Address) -> Result<Option<Dir>, HostError> {
    let path = format!("{DEVICES}/{address}");
    match root.dir(&path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(errno) => Err(problem::file(root, "open", &path, errno)),
    }
}

/// The directory of a function; an error if it is gone.
pub fn existing(root: &Root, address: Address) -> Result<Dir, HostError> {
    directory(root, address)?.ok_or(HostError::Gone { address })
}

/// The driver that a function is bound to, from its open directory.
pub fn driver(dir: &Dir) -> Result<Option<String>, Errno> {
    match dir.link_name("driver") {
        Ok(name) => Ok(Some(name)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The present `driver_override`; the kernel prints a null pointer as `(null)`.
pub fn driver_override(dir: &Dir) -> Result<Option<String>, Errno> {
    let text = dir.text("driver_override")?;
    Ok(Some(text).filter(|text| !text.is_empty() && text != "(null)"))
}

/// `power/control`, if it can be read.
pub fn power(dir: &Dir) -> Option<PowerControl> {
    match dir.text("power/control").ok()?.as_str() {
        "auto" => Some(PowerControl::Auto),
        "on" => Some(PowerControl::On),
        _ => None,
    }
}

/// The driver that a function is bound to.
pub fn bound(root: &Root, dir: &Dir, address: Address) -> Result<Option<String>, HostError> {
    driver(dir)
        .map_err(|errno| problem::file(root, "read", &format!("{DEVICES}/{address}/driver"), errno))
}

/// The driver that the function at an address is bound to now.
pub fn bound_now(root: &Root, address: Address) -> Result<Option<String>, HostError> {
    bound(root, &existing(root, address)?, address)
}

/// Writes to a file of a function. If the function is gone, the error is [`HostError::Gone`].
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

/// Refuses a name that could change the meaning of a path. The names of drivers and modules have only these characters.
pub fn check_name(root: &Root, what: &str, name: &str) -> Result<(), HostError> {
    let valid = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if valid {
        return Ok(());
    }
    let reason = format!("{name:?} cannot be the name of a {what}");
    Err(problem::because(root, "search", "sys", Errno::INVAL, reason))
}
