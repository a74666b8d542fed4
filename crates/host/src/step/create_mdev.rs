//! Making mediated devices, and what is there of one (Documentation/driver-api/vfio-mediated-device.rst).

use model::{Address, HostError, Observed};
use rustix::io::Errno;
use uuid::Uuid;

use crate::function_files::{DEVICES, check_name, directory};
use crate::inventory::{MDEVS, one};
use crate::problem;
use crate::root::Root;

/// Where a parent offers its types.
const TYPES: &str = "mdev_supported_types";

/// What is there of a mediated device, compared with the one that is meant: its parent and its type.
pub enum There {
    /// Nothing.
    No,
    /// On its way in or out: the kernel links its type last and takes that link away first (`mdev_device_create` and
    /// `mdev_device_remove_common` in drivers/vfio/mdev/mdev_core.c).
    Between,
    /// That one.
    Same,
    /// Another one of its name.
    Different(String),
}

/// Whether it is made. The kernel makes the link last, when its driver has it (`mdev_device_create` in
/// drivers/vfio/mdev/mdev_core.c), and reading links takes no lock.
pub fn observe(
    root: &Root,
    address: Address,
    uuid: Uuid,
    type_id: &str,
) -> Result<Observed, HostError> {
    let Some(_) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match there(root, address, uuid, type_id)? {
        There::No | There::Between => Observed::Before,
        There::Same => Observed::After,
        There::Different(found) => Observed::Other(found),
    })
}

/// What is there of it.
pub fn there(root: &Root, address: Address, uuid: Uuid, type_id: &str) -> Result<There, HostError> {
    if !is_there(root, uuid)? {
        return Ok(There::No);
    }
    let found = one::mdev(root, uuid);
    // It can go between two readings.
    if !is_there(root, uuid)? {
        return Ok(There::No);
    }
    Ok(match found {
        None => There::Different(format!("{uuid} on a parent that is no PCI function")),
        Some((parent, _)) if parent != address => There::Different(format!("{uuid} on {parent}")),
        Some((_, mdev)) => match mdev.type_id {
            None => There::Between,
            Some(now) if now != type_id => There::Different(format!("{uuid} of type {now}")),
            Some(_) => There::Same,
        },
    })
}

fn is_there(root: &Root, uuid: Uuid) -> Result<bool, HostError> {
    let path = format!("{MDEVS}/{uuid}");
    match root.link(&path) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(problem::file(root, "read", &path, errno)),
    }
}

/// The function that a mediated device is a part of; `None` where it is not there.
pub fn parent(root: &Root, uuid: Uuid) -> Result<Option<Address>, HostError> {
    Ok(if is_there(root, uuid)? { one::mdev(root, uuid).map(|found| found.0) } else { None })
}

/// Its IOMMU group; `None` where it is not there or in none yet.
pub fn group(root: &Root, uuid: Uuid) -> Result<Option<u32>, HostError> {
    let path = format!("{MDEVS}/{uuid}/iommu_group");
    match root.link_name(&path) {
        Ok(name) => Ok(name.parse().ok()),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(problem::file(root, "read", &path, errno)),
    }
}

/// What is missing where it is not there.
pub fn missing(uuid: Uuid) -> String {
    format!("no mediated device {uuid} there")
}

/// Makes one.
pub fn create(root: &Root, address: Address, uuid: Uuid, type_id: &str) -> Result<(), HostError> {
    check_name(root, "type of mediated device", type_id)?;
    let path = format!("{DEVICES}/{address}/{TYPES}/{type_id}/create");
    let Err(errno) = root.write(&path, &uuid.to_string()) else { return Ok(()) };
    if !root.exists(&format!("{DEVICES}/{address}")) {
        return Err(HostError::Gone { address });
    }
    let action = format!("write \"{uuid}\" to");
    Err(problem::because(root, action, &path, errno, why(root, address, type_id, errno)))
}

/// What the kernel's refusal means (`create_store` in drivers/vfio/mdev/mdev_sysfs.c and what it calls).
fn why(root: &Root, address: Address, type_id: &str, errno: Errno) -> String {
    let words = problem::words(errno);
    let types = root.names(&format!("{DEVICES}/{address}/{TYPES}")).unwrap_or_default();
    match errno {
        Errno::NOENT if types.is_empty() => {
            format!("{address} offers no mediated devices: its driver is not loaded or has none")
        }
        Errno::NOENT => format!("{address} offers no type {type_id}, but {}", types.join(", ")),
        Errno::USERS | Errno::NOSPC | Errno::BUSY => format!(
            "{words}: {address} has no room for another {type_id}; `handover show {address}` tells what it could make"
        ),
        Errno::EXIST => format!("{words}: another parent has a mediated device of this name"),
        _ => format!("{words}: its driver refused it; see `dmesg`"),
    }
}
