//! Removing mediated devices (Documentation/driver-api/vfio-mediated-device.rst).

use model::{Address, HostError, Observed};
use rustix::io::Errno;
use uuid::Uuid;

use super::create_mdev::{There, there};
use crate::function_files::{directory, write};
use crate::inventory::MDEVS;
use crate::root::Root;
use crate::{holders, problem};

/// Whether it is removed. While somebody has it open, the link is gone and the removal waits: what is seen here holds
/// only while nobody has the lock of the parent.
pub fn observe(
    root: &Root,
    address: Address,
    uuid: Uuid,
    type_id: &str,
) -> Result<Observed, HostError> {
    let Some(_) = directory(root, address)? else { return Ok(Observed::Absent) };
    Ok(match there(root, address, uuid, type_id)? {
        There::No => Observed::After,
        There::Same | There::Between => Observed::Before,
        There::Different(found) => Observed::Other(found),
    })
}

/// Removes one that nobody has open: the kernel would wait for whoever has (`vfio_unregister_group_dev` in
/// drivers/vfio/vfio_main.c).
pub fn remove(root: &Root, address: Address, uuid: Uuid) -> Result<(), HostError> {
    let path = format!("{MDEVS}/{uuid}/remove");
    let users = holders::of_mdev(root, address, uuid)?;
    if let Some(user) = users.first() {
        let reason = format!("{} has {} open; end it first", user.user, user.by);
        return Err(problem::because(root, "write \"1\" to", &path, Errno::BUSY, reason));
    }
    write(root, address, &path, "1")
}
