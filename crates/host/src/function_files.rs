//! The directory of a function in sysfs: looking into it and writing to it.

use model::{Address, HostError};
use rustix::io::Errno;

use crate::inventory::DEVICES;
use crate::root::{Dir, Root};
use crate::{as_found, problem};

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
pub fn bound(root: &Root, dir: &Dir, address: Address) -> Result<Option<String>, HostError> {
    as_found::driver(dir)
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
