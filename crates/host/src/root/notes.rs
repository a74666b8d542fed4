//! What is told when something is read under a root.

use rustix::io::Errno;

use super::{FileKind, Result};

/// Takes note of what is read, by its path below the root.
pub trait Notes: std::fmt::Debug + Send + Sync {
    /// A path was looked at.
    fn looked(&self, path: &str, error: Option<&Errno>);

    /// A link was read.
    fn read_link(&self, path: &str, error: Option<&Errno>);

    /// A file was read.
    fn read(&self, path: &str, content: Result<&[u8]>);

    /// A directory was listed.
    fn listed(&self, path: &str, names: Result<&[String]>);

    /// An open file is a device.
    fn is_device(&self, path: &str, kind: FileKind, number: (u32, u32));

    /// Somebody has a disk for himself.
    fn claimed(&self, path: &str);

    /// A text of our own.
    fn own(&self, path: &str, text: &str);
}
