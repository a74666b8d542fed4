//! Volumes: disks of their own, mounted where the configuration says.

use std::time::Instant;

use guest_protocol::{MountPoint, ProtocolError, is_absolute_path};
use rustix::mount::MountFlags;

use super::disks;
use super::error::InitError;
use super::mounts::mount_on;

/// Mounts a volume.
pub fn mount(volume: &MountPoint, until: Instant) -> Result<(), InitError> {
    if !is_absolute_path(&volume.path) {
        let reason = format!("the volume's path {:?} is not absolute", volume.path);
        return Err(ProtocolError::Malformed { what: "the configuration", reason }.into());
    }
    let device = disks::wait_for(&volume.serial, until)?;
    let filesystem = if volume.filesystem.is_empty() { "ext4" } else { volume.filesystem.as_str() };
    let flags = if volume.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    mount_on(&device.to_string_lossy(), &volume.path, filesystem, flags, "")
}
