//! Why an image is not taken.

use std::io;
use std::path::PathBuf;

use model::{Code, Refusal};

/// What went wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing that a machine could boot was given.
    #[error("an image needs a disk, a kernel, or both")]
    Empty,
    /// An initial ramdisk without the kernel that would unpack it.
    #[error("an initial ramdisk was given without a kernel")]
    InitrdAlone,
    /// The path leads to nothing.
    #[error("there is no file {}", path.display())]
    NotFound {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The path is not below a configured directory, or leads out of it.
    #[error("{} is not below a directory from which images may be imported", path.display())]
    Outside {
        /// The path as it was asked for.
        path: PathBuf,
        /// The configured directories.
        allowed: Vec<PathBuf>,
    },
    /// The path leads to a directory, a device node, a pipe or a socket.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The file is not what it is said to be, or not acceptable.
    #[error("the {part} cannot be accepted: {problem}")]
    Rejected {
        /// `disk`, `kernel` or `initrd`.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The disk that holds the store is full.
    #[error("there is no space left below {} for the image", path.display())]
    NoSpace {
        /// The store.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
}

impl ImageError {
    /// An error of the kernel's, with what was tried. A full disk is told apart, since it has its own remedy.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        let (path, source) = (path.into(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { action, path, source },
        }
    }
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        let message = error.to_string();
        match error {
            ImageError::Empty => Self::new(
                Code::InvalidRequest,
                message,
                "give a disk with its format, a kernel, or both",
            ),
            ImageError::InitrdAlone => {
                Self::new(Code::InvalidRequest, message, "give the kernel that it belongs to")
            }
            ImageError::NotFound { .. } => Self::new(
                Code::NotFound,
                message,
                "check the path on the host that runs the daemon",
            ),
            ImageError::Outside { allowed, .. } => {
                Self::new(Code::InvalidImage, message, outside_remedy(&allowed))
            }
            ImageError::NotAFile { .. } => {
                Self::new(Code::InvalidImage, message, "name the image file itself")
            }
            ImageError::Rejected { remedy, .. } => Self::new(Code::InvalidImage, message, remedy),
            ImageError::NoSpace { path } => Self::new(
                Code::InsufficientResources,
                message,
                format!("make room: df -h {}; delete images that are not used", path.display()),
            ),
            ImageError::Io { source, .. } => Self::new(
                Code::Internal,
                format!("{message}: {source}"),
                "see the daemon's log; check the disk and the permissions",
            ),
        }
    }
}

/// What to do about a path outside the configured directories.
fn outside_remedy(allowed: &[PathBuf]) -> String {
    if allowed.is_empty() {
        return "no directory is configured for imports: upload the file instead, or start the daemon with one".into();
    }
    let list: Vec<String> = allowed.iter().map(|dir| dir.display().to_string()).collect();
    format!("put the file below {}, or upload it", list.join(" or "))
}
