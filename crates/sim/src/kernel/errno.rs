//! The kernel's error numbers and texts.

use model::{HostError, Step};

/// An errno with its text, before the path is known.
pub(crate) type Errno = (i32, &'static str);

pub(crate) const EPERM: Errno = (1, "Operation not permitted");
pub(crate) const ENOENT: Errno = (2, "No such file or directory");
pub(crate) const EIO: Errno = (5, "Input/output error");
pub(crate) const EAGAIN: Errno = (11, "Resource temporarily unavailable");
pub(crate) const ENOMEM: Errno = (12, "Cannot allocate memory");
pub(crate) const EBUSY: Errno = (16, "Device or resource busy");
pub(crate) const EEXIST: Errno = (17, "File exists");
pub(crate) const ENODEV: Errno = (19, "No such device");
pub(crate) const EINVAL: Errno = (22, "Invalid argument");
pub(crate) const ENOTTY: Errno = (25, "Inappropriate ioctl for device");
pub(crate) const ENOSPC: Errno = (28, "No space left on device");
pub(crate) const ERANGE: Errno = (34, "Numerical result out of range");
pub(crate) const ETIMEDOUT: Errno = (110, "Connection timed out");

/// The refusal of a step.
pub(crate) fn refused(step: &Step, (errno, words): Errno) -> HostError {
    HostError::File {
        action: step.describe(),
        path: "sysfs".into(),
        reason: words.into(),
        errno: Some(errno),
    }
}
