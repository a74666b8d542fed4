//! The interface of whatever records reads under a root.

use rustix::io::Errno;

use super::{FileKind, Result};

/// Records reads, by the path below the root.
pub trait Notes: std::fmt::Debug + Send + Sync {
    /// Records that a path was checked.
    fn checked(&self, path: &str, error: Option<&Errno>);

    /// Records that a link was read.
    fn read_link(&self, path: &str, error: Option<&Errno>);

    /// Records that a file was read.
    fn read(&self, path: &str, content: Result<&[u8]>);

    /// Records that a directory was listed.
    fn listed(&self, path: &str, names: Result<&[String]>);

    /// Records that an open file is a device.
    fn is_device(&self, path: &str, kind: FileKind, number: (u32, u32));

    /// Records that a block device is claimed exclusively.
    fn claimed(&self, path: &str);

    /// Records a file with a text of our own.
    fn own(&self, path: &str, text: &str);
}
