//! Files: what they are, and how they are copied.

use serde::{Deserialize, Serialize};

use crate::{ProtocolError, is_absolute_path, is_inner_path};

/// Asks what a path is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatRequest {
    /// The path, absolute.
    pub path: String,
    /// Follows a link in the last component.
    #[serde(default)]
    pub follow_links: bool,
}

/// What a path is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Nothing is there: all else is zero.
    pub exists: bool,
    /// The kind of file and the permissions, as `st_mode` has them.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size in bytes.
    pub size: u64,
    /// The time of its last change, in seconds since 1970.
    pub modified: i64,
    /// The target, if it is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Copies entries to below a directory, which is made if it is missing; or to one file, whose entry has an empty path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyIn {
    /// The destination, absolute.
    pub path: String,
}

/// Copies a file or a directory with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOut {
    /// The source, absolute.
    pub path: String,
    /// Follows a link in the last component. Links below it are copied as links.
    #[serde(default)]
    pub follow_links: bool,
}

/// One file, directory or link of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path below the copied directory; empty for that itself, or for the only file.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The time of its last change, in seconds since 1970.
    pub modified: i64,
}

/// What an entry of a copy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file, whose contents follow.
    File {
        /// Its size: so many bytes of data follow.
        size: u64,
    },
    /// A regular file of a size that is not known before: its contents follow, then data without a byte. Only into the guest.
    Stream,
    /// A symbolic link.
    Link {
        /// Its target.
        target: String,
    },
}

impl Entry {
    /// An entry whose path stays below the destination. Each entry is checked when it is read.
    pub(crate) fn checked(self) -> Result<Self, ProtocolError> {
        if is_inner_path(&self.path) {
            return Ok(self);
        }
        Err(bad_path("an entry", &self.path))
    }
}

impl StatRequest {
    pub(crate) fn checked(self) -> Result<Self, ProtocolError> {
        absolute("a stat", &self.path)?;
        Ok(self)
    }
}

impl CopyIn {
    pub(crate) fn checked(self) -> Result<Self, ProtocolError> {
        absolute("a copy", &self.path)?;
        Ok(self)
    }
}

impl CopyOut {
    pub(crate) fn checked(self) -> Result<Self, ProtocolError> {
        absolute("a copy", &self.path)?;
        Ok(self)
    }
}

fn absolute(what: &'static str, path: &str) -> Result<(), ProtocolError> {
    if is_absolute_path(path) { Ok(()) } else { Err(bad_path(what, path)) }
}

fn bad_path(what: &'static str, path: &str) -> ProtocolError {
    let reason = format!("{path:?} is not a path that is allowed there");
    ProtocolError::Malformed { what, reason }
}
