//! Removing mediated devices (Documentation/driver-api/vfio-mediated-device.rst).

use model::{Address, HostError, Observed};
use rustix::io::Errno;
use uuid::Uuid;

use super::create_mdev::{MdevState, state};
use crate::function_files::{directory, write};
use crate::inventory::MDEVS;
use crate::root::Root;
use crate::{holders, problem};

/// Whether it is removed. While a process has it open, the link is gone already and the removal waits: the result is
/// valid only while no other process holds the parent's lock.
pub fn observe(
    root: &Root,
    address: Address,
    uuid: Uuid,
    type_id: &str,
) -> Result<Observed, HostError> {
    let Some(_) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match state(root, address, uuid, type_id)? {
        MdevState::Absent => Observed::After,
        MdevState::Same | MdevState::Changing => Observed::Before,
        MdevState::Different(found) => Observed::Other(found),
    })
}

/// Removes a mediated device. Refuses while a process has it open: the kernel would wait until it is closed
/// (`vfio_unregister_group_dev` in drivers/vfio/vfio_main.c).
pub fn remove(root: &Root, address: Address, uuid: Uuid) -> Result<(), HostError> {
    let path = format!("{MDEVS}/{uuid}/remove");
    let users = holders::of_mdev(root, address, uuid)?;
    if let Some(user) = users.first() {
        let reason = format!("{} has {} open; stop it first", user.user, user.by);
        return Err(problem::because(root, "write \"1\" to", &path, Errno::BUSY, reason));
    }
    write(root, address, &path, "1")
}
