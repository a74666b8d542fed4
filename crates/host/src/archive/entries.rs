//! The files of a recording.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

/// Files by their resolved paths below the root (`sys/bus/pci`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The files.
    pub files: BTreeMap<String, Entry>,
    /// Block devices that were claimed exclusively (`dev/nvme0n1`).
    pub claimed: BTreeSet<String>,
    /// Open files (`proc/4711/fd/3`) that were devices: whether block devices, and the number. Only during recording.
    pub open_devices: BTreeMap<String, (bool, (u32, u32))>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Why it could not be read.
    pub error: Option<Errno>,
}

/// The kind of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    #[default]
    Directory,
    /// A symbolic link.
    Link(String),
    /// A regular file, with its content if it was read.
    File(Option<Vec<u8>>),
    /// A device node.
    Device {
        /// Whether it is a block device; else a character device.
        block: bool,
        /// Major and minor number.
        number: (u32, u32),
    },
    /// A FIFO or a socket.
    Other,
}

impl Default for Entry {
    /// A directory.
    fn default() -> Self {
        Self { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, error: None }
    }
}

impl Entry {
    /// The target of a link.
    pub fn target(&self) -> Option<String> {
        match &self.kind {
            Kind::Link(target) => Some(target.clone()),
            _ => None,
        }
    }

    /// The contents of a file that was read.
    pub fn content(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::File(Some(content)) => Some(content),
            _ => None,
        }
    }
}
