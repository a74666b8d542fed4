//! What is in a recording.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

/// Files by their paths below the root (`sys/bus/pci`), in which there are no links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The files.
    pub files: BTreeMap<String, Entry>,
    /// Block devices that somebody had for himself (`dev/nvme0n1`).
    pub claimed: BTreeSet<String>,
    /// Open files (`proc/4711/fd/3`) that were devices: whether of blocks, and the number. Only while a recording is made.
    pub open_devices: BTreeMap<String, (bool, (u32, u32))>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Why it could not be read.
    pub error: Option<Errno>,
}

/// What a file is.
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
        /// A block device; else a character device.
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
    /// Where it leads, if it is a link.
    pub fn target(&self) -> Option<String> {
        match &self.kind {
            Kind::Link(target) => Some(target.clone()),
            _ => None,
        }
    }

    /// What it says, if it was read.
    pub fn content(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::File(Some(content)) => Some(content),
            _ => None,
        }
    }
}
