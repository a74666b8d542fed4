//! The status of a file (stat(2)).

use rustix::fs::{FileType, Stat};

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A regular file.
    File,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A socket or a FIFO.
    Other,
}

/// The status of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its type.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last modification, in seconds since 1970.
    pub modified: i64,
    /// Major and minor number, of a device.
    pub number: (u32, u32),
}

/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

impl From<&Stat> for Status {
    fn from(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Link,
            FileType::RegularFile => FileKind::File,
            FileType::CharacterDevice => FileKind::Character,
            FileType::BlockDevice => FileKind::Block,
            _ => FileKind::Other,
        };
        Self {
            kind,
            mode: stat.st_mode & PERMISSIONS,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: stat.st_mtime,
            number: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        }
    }
}
