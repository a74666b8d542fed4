//! Opening files for a VMM whose user cannot.

use std::io;
use std::path::PathBuf;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor};
use rustix::io::Errno;

use super::order::OpenFile;

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The host refused.
    #[error("cannot open {0:?}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// Another program has the block device.
    #[error("{0:?} is in use by this host or another machine")]
    Busy(PathBuf),
    /// The name leads to another block device than before.
    #[error("{0:?} is another device now")]
    OtherDevice(PathBuf),
}

/// Opens a file for the VMM. A block device is opened exclusively: while the VMM has it, the host can neither mount it nor use it
/// otherwise.
pub fn open(file: &OpenFile) -> Result<OwnedFd, NotOpened> {
    let access = if file.writable { OFlags::RDWR } else { OFlags::RDONLY };
    let kind = if file.block.is_some() { OFlags::EXCL } else { OFlags::NOFOLLOW };
    let failed = |error: Errno| match error {
        Errno::BUSY if file.block.is_some() => NotOpened::Busy(file.path.clone()),
        error => NotOpened::File(file.path.clone(), error.into()),
    };
    let flags = access | kind | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&file.path, flags, Mode::empty()).map_err(failed)?;
    let Some(number) = file.block else { return Ok(opened) };
    let found = fstat(&opened).map_err(failed)?;
    let is_block = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
    if is_block && (major(found.st_rdev), minor(found.st_rdev)) == number {
        return Ok(opened);
    }
    Err(NotOpened::OtherDevice(file.path.clone()))
}
