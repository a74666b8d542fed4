//! Creating mediated devices, and the state of one (Documentation/driver-api/vfio-mediated-device.rst).

use model::{Address, HostError, Observed};
use rustix::io::Errno;
use uuid::Uuid;

use crate::function_files::{DEVICES, check_name, directory};
use crate::inventory::{MDEVS, one};
use crate::problem;
use crate::root::Root;

/// The directory in which a parent offers its types.
const TYPES: &str = "mdev_supported_types";

/// The state of a mediated device, compared with a parent and a type.
pub enum MdevState {
    /// It does not exist.
    Absent,
    /// It is being created or removed: the kernel creates the link to its type last and removes that link first
    /// (`mdev_device_create` and `mdev_device_remove_common` in drivers/vfio/mdev/mdev_core.c).
    Changing,
    /// It exists, on this parent and of this type.
    Same,
    /// It exists on another parent or of another type.
    Different(String),
}

/// Whether it exists. The kernel creates the link last, when its driver is bound (`mdev_device_create` in
/// drivers/vfio/mdev/mdev_core.c), and reading links takes no lock.
pub fn observe(
    root: &Root,
    address: Address,
    uuid: Uuid,
    type_id: &str,
) -> Result<Observed, HostError> {
    let Some(_) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match state(root, address, uuid, type_id)? {
        MdevState::Absent | MdevState::Changing => Observed::Before,
        MdevState::Same => Observed::After,
        MdevState::Different(found) => Observed::Other(found),
    })
}

/// The present state of a mediated device.
pub fn state(
    root: &Root,
    address: Address,
    uuid: Uuid,
    type_id: &str,
) -> Result<MdevState, HostError> {
    if !exists(root, uuid)? {
        return Ok(MdevState::Absent);
    }
    let found = one::mdev(root, uuid);
    // It can be removed between the two reads.
    if !exists(root, uuid)? {
        return Ok(MdevState::Absent);
    }
    Ok(match found {
        None => MdevState::Different(format!("{uuid} on a parent that is not a PCI function")),
        Some((parent, _)) if parent != address => {
            MdevState::Different(format!("{uuid} on {parent}"))
        }
        Some((_, mdev)) => match mdev.type_id {
            None => MdevState::Changing,
            Some(now) if now != type_id => MdevState::Different(format!("{uuid} of type {now}")),
            Some(_) => MdevState::Same,
        },
    })
}

fn exists(root: &Root, uuid: Uuid) -> Result<bool, HostError> {
    let path = format!("{MDEVS}/{uuid}");
    match root.link(&path) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(problem::file(root, "read", &path, errno)),
    }
}

/// The parent of a mediated device; `None` if the device does not exist.
pub fn parent(root: &Root, uuid: Uuid) -> Result<Option<Address>, HostError> {
    Ok(if exists(root, uuid)? { one::mdev(root, uuid).map(|found| found.0) } else { None })
}

/// The IOMMU group of a mediated device; `None` if the device does not exist or is in no group yet.
pub fn group(root: &Root, uuid: Uuid) -> Result<Option<u32>, HostError> {
    let path = format!("{MDEVS}/{uuid}/iommu_group");
    match root.link_name(&path) {
        Ok(name) => Ok(name.parse().ok()),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(problem::file(root, "read", &path, errno)),
    }
}

/// Describes a mediated device that does not exist.
pub fn missing(uuid: Uuid) -> String {
    format!("no mediated device {uuid}")
}

/// Creates a mediated device.
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

/// Explains the kernel's error (`create_store` in drivers/vfio/mdev/mdev_sysfs.c and what it calls).
fn why(root: &Root, address: Address, type_id: &str, errno: Errno) -> String {
    let words = problem::words(errno);
    let types = root.names(&format!("{DEVICES}/{address}/{TYPES}")).unwrap_or_default();
    match errno {
        Errno::NOENT if types.is_empty() => {
            format!(
                "{address} offers no mediated devices: its driver is not loaded or does not support them"
            )
        }
        Errno::NOENT => format!("{address} offers no type {type_id}, but {}", types.join(", ")),
        Errno::USERS | Errno::NOSPC | Errno::BUSY => format!(
            "{words}: {address} has no room for another {type_id}; `handover show {address}` lists the types that it can create"
        ),
        Errno::EXIST => format!("{words}: another parent has a mediated device with this UUID"),
        _ => format!("{words}: the driver refused; see `dmesg`"),
    }
}
