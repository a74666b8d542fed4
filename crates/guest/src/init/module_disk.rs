//! The disk with the kernel's modules, for images that have none for the kernel that runs.

use std::path::Path;
use std::time::Instant;

use guest_protocol::serials;
use rustix::mount::{MountFlags, mount_bind};
use rustix::system::uname;

use super::disks;
use super::error::InitError;
use super::mounts::{directory, mount_on};

const PLACE: &str = "/run/handover/modules";

/// Mounts the disk where the image would have the modules. The disk has the directory's contents, or the whole path.
pub fn mount(until: Instant) -> Result<(), InitError> {
    let device = disks::wait_for(serials::MODULES, until)?;
    mount_on(&device.to_string_lossy(), PLACE, "erofs", MountFlags::RDONLY, "")?;
    let version = uname().release().to_string_lossy().into_owned();
    let target = format!("/lib/modules/{version}");
    let inner = ["lib/modules", "usr/lib/modules"].map(|path| format!("{PLACE}/{path}/{version}"));
    let source = inner.into_iter().find(|path| Path::new(path).is_dir());
    let source = source.unwrap_or_else(|| PLACE.to_owned());
    directory(&target, 0o755)?;
    mount_bind(&source, &target).map_err(|errno| InitError::Mount {
        what: source.clone(),
        target: target.clone(),
        errno,
    })
}
