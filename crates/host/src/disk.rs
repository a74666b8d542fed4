//! The file systems of Handover's own directories. They are not below the host's root: `--root` has no state.

use std::path::Path;

use model::HostError;
use rustix::fs::{Mode, OFlags, open, statvfs, syncfs};

use crate::problem;

/// How many more bytes fit on the file system of this directory, without the blocks that are reserved for root.
pub fn free_space(dir: &Path) -> Result<u64, HostError> {
    let found = statvfs(dir).map_err(|errno| HostError::File {
        action: "read the free space of".into(),
        path: dir.display().to_string(),
        reason: problem::words(errno),
        errno: Some(errno.raw_os_error()),
    })?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Writes out the file system of this directory: syncfs(2) commits the transaction of Btrfs and ZFS, whose free space
/// is counted by transaction.
pub fn write_out(dir: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(dir) = open(dir, flags, Mode::empty()) {
        // A failed write is also reported to the file's own fsync(2).
        let _ = syncfs(dir);
    }
}
