//! Attributes of a mediated device, such as `nvidia/vgpu_params`.

use model::{Address, HostError, Observed};
use rustix::io::Errno;
use uuid::Uuid;

use super::create_mdev;
use crate::function_files::directory;
use crate::inventory::MDEVS;
use crate::problem;
use crate::root::Root;

/// The kernel accepts a page at most (Documentation/filesystems/sysfs.rst).
const LONGEST: usize = 4095;

/// Compares the attribute with the value. Some attributes cannot be read, or read back differently; these count as not
/// written, because writing again does no harm. The read can wait for the driver.
pub fn observe(
    root: &Root,
    address: Address,
    uuid: Uuid,
    name: &str,
    value: &str,
) -> Result<Observed, HostError> {
    let Some(_) = directory(root, address)? else { return Ok(Observed::Absent) };
    if create_mdev::parent(root, uuid)? != Some(address) {
        return Ok(Observed::Absent);
    }
    check(root, uuid, name, value)?;
    let Ok(dir) = root.dir(&format!("{MDEVS}/{uuid}")) else { return Ok(Observed::Absent) };
    let same = dir.text_beneath(name).is_ok_and(|now| now == value.trim());
    Ok(if same { Observed::After } else { Observed::Before })
}

/// Writes it.
pub fn set(root: &Root, uuid: Uuid, name: &str, value: &str) -> Result<(), HostError> {
    check(root, uuid, name, value)?;
    let path = format!("{MDEVS}/{uuid}/{name}");
    let failed = |errno| problem::file(root, format!("write {value:?} to"), &path, errno);
    let dir = root.dir(&format!("{MDEVS}/{uuid}")).map_err(failed)?;
    dir.write_beneath(name, value).map_err(|errno| match errno {
        Errno::NOENT => {
            let reason = "the mediated device does not have this attribute";
            problem::because(root, format!("write {value:?} to"), &path, errno, reason)
        }
        errno => failed(errno),
    })
}

/// Refuses a name that leads out of the device's directory, and `remove`, which would remove the device.
fn check(root: &Root, uuid: Uuid, name: &str, value: &str) -> Result<(), HostError> {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-:@".contains(&b))
    };
    let reason = if name.len() > 255 || !name.split('/').all(part) || name == "remove" {
        format!("{name:?} cannot be the name of an attribute of a mediated device")
    } else if value.is_empty() || value.len() > LONGEST || value.contains('\0') {
        format!("an attribute takes 1 to {LONGEST} bytes of text")
    } else {
        return Ok(());
    };
    let path = format!("{MDEVS}/{uuid}");
    Err(problem::because(root, "write an attribute of", &path, Errno::INVAL, reason))
}
