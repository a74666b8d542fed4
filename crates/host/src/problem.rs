//! Kernel errors as [`HostError`]s.

use model::HostError;
use rustix::io::Errno;

use crate::root::Root;

/// The C library's text for an error number, without Rust's `(os error N)`.
pub fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A failed access to a file, with the text of the error number as the reason.
pub fn file(root: &Root, action: impl Into<String>, path: &str, errno: Errno) -> HostError {
    because(root, action, path, errno, words(errno))
}

/// A file that cannot be changed, for a reason other than a kernel error.
pub fn without_errno(root: &Root, action: &str, path: &str, reason: &str) -> HostError {
    HostError::File {
        action: action.into(),
        path: root.shown(path.trim_start_matches('/')),
        reason: reason.into(),
        errno: None,
    }
}

/// A failed access to a file, with a more helpful reason than the text of the error number.
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
