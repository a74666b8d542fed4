//! The kernel's refusals as [`HostError`]s.

use model::HostError;
use rustix::io::Errno;

use crate::root::Root;

/// The kernel's words for an error number, without Rust's `(os error N)`.
pub fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A file of the kernel's that refused, in its own words.
pub fn file(root: &Root, action: impl Into<String>, path: &str, errno: Errno) -> HostError {
    because(root, action, path, errno, words(errno))
}

/// A file that cannot be as it shall be, for a reason that is no error of the kernel's.
pub fn said(root: &Root, action: &str, path: &str, reason: &str) -> HostError {
    HostError::File {
        action: action.into(),
        path: root.shown(path.trim_start_matches('/')),
        reason: reason.into(),
        errno: None,
    }
}

/// A file of the kernel's that refused, with a reason that helps more than the kernel's words.
pub fn because(
    root: &Root,
    action: impl Into<String>,
    path: &str,
    errno: Errno,
    reason: impl Into<String>,
) -> HostError {
    HostError::File {
        action: action.into(),
        path: root.shown(path),
        reason: reason.into(),
        errno: Some(errno.raw_os_error()),
    }
}
