//! Errors of imports.

use std::io;
use std::path::{Path, PathBuf};

use model::{Code, HostError, Refusal, shown};

use crate::container_error::ContainerError;
use crate::initrd::InitrdError;
use crate::limits::RESERVE;

/// Why an image cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Neither a disk nor a kernel was given.
    #[error("an image needs a disk, a kernel, or both")]
    Empty,
    /// An initial ramdisk without a kernel.
    #[error("an initial ramdisk was given without a kernel")]
    InitrdAlone,
    /// The file does not exist.
    #[error("no such file: {}", path.display())]
    NotFound {
        /// The path from the request.
        path: PathBuf,
    },
    /// The path is not below a configured directory, or leads out of it.
    #[error("{} is not below an import directory", path.display())]
    Outside {
        /// The path from the request.
        path: PathBuf,
        /// The configured directories.
        allowed: Vec<PathBuf>,
    },
    /// The path leads to a directory, a device node, a pipe or a socket.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path from the request.
        path: PathBuf,
    },
    /// The file does not have the declared format, or is not acceptable.
    #[error("cannot accept the {part}: {problem}")]
    Rejected {
        /// `disk`, `kernel` or `initrd`.
        part: &'static str,
        /// The problem.
        problem: String,
        /// The remedy.
        remedy: String,
    },
    /// The file is larger than the limit.
    #[error("the {part} is larger than {}", shown::bytes(*most))]
    TooLarge {
        /// `disk`, `kernel` or `initrd`.
        part: &'static str,
        /// The limit in bytes.
        most: u64,
    },
    /// Too many uploads and imports are running.
    #[error("{at_once} uploads and imports of images are running, which is the limit")]
    TooMany {
        /// The limit.
        at_once: u32,
    },
    /// It was asked to end.
    #[error(
        "cancelled, because it was deleted meanwhile, the request ended, or the daemon is stopping; nothing is left of it"
    )]
    Cancelled,
    /// The budget has not enough space.
    #[error(
        "not enough space in {}: it needs {} more, and {} are available; {} stay free for the journal",
        path.display(), shown::bytes(*need), shown::bytes(*room), shown::bytes(RESERVE)
    )]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// The bytes that are missing.
        need: u64,
        /// The bytes that could be granted.
        room: u64,
    },
    /// The volume is being made or deleted by another request.
    #[error("the volume {id} is being made or deleted by another request")]
    Exists {
        /// Its id.
        id: uuid::Uuid,
    },
    /// A program is not installed.
    #[error("cannot make the disk: {program} is not installed")]
    NoTool {
        /// The program.
        program: &'static str,
    },
    /// The archive is not accepted.
    #[error("cannot accept the archive: {problem}")]
    Archive {
        /// The problem.
        problem: String,
    },
    /// The archive has more than fits.
    #[error("the archive has more than {}, which is the size of the volume", shown::bytes(*most))]
    ArchiveTooLarge {
        /// The size in bytes.
        most: u64,
    },
    /// A program failed.
    #[error("{program} failed: {said}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// The free space cannot be read.
    #[error(transparent)]
    Disk(HostError),
    /// The file system of the store has no files of that size.
    #[error("the file system of {} has no files of that size", path.display())]
    NoFileOfSize {
        /// The file.
        path: PathBuf,
    },
    /// The file system of the store is full.
    #[error("not enough space below {}", path.display())]
    NoSpace {
        /// The store.
        path: PathBuf,
    },
    /// A container image cannot be had.
    #[error(transparent)]
    Container(Box<ContainerError>),
    /// The initial ramdisk of a machine cannot be made.
    #[error(transparent)]
    Initrd(#[from] InitrdError),
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The action that failed: `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

impl ImageError {
    /// An error of the kernel, with the action that failed. A full disk is a separate error, with its own remedy.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        let (path, source) = (path.into(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            io::ErrorKind::FileTooLarge => Self::NoFileOfSize { path },
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
            ImageError::NoFileOfSize { .. } => Self::new(
                Code::InvalidSize,
                message,
                "ask for less; ext4 has files of at most 16 TB",
            ),
            ImageError::InitrdAlone => {
                Self::new(Code::InvalidRequest, message, "also give its kernel")
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
                Self::new(Code::InvalidImage, message, "give the path of the image file itself")
            }
            ImageError::Rejected { remedy, .. } => Self::new(Code::InvalidImage, message, remedy),
            ImageError::TooLarge { .. } => Self::new(
                Code::InvalidImage,
                message,
                "convert a raw disk to qcow2, which leaves out what is unused (`qemu-img convert -O qcow2 DISK NEW`), or \
                 raise the limit: `handover serve --image-size`",
            ),
            ImageError::TooMany { .. } => Self::new(
                Code::TooManyRequests,
                message,
                "retry when one has ended (`handover image list`), or end one: `handover image rm NAME`",
            ),
            ImageError::NoTool { .. }
            | ImageError::Tool { .. }
            | ImageError::Archive { .. }
            | ImageError::ArchiveTooLarge { .. } => not_made(&error, message),
            ImageError::Exists { .. } => Self::new(Code::AlreadyExists, message, "use another id"),
            ImageError::Cancelled => {
                Self::new(Code::InvalidState, message, "ask for it again if it is still needed")
            }
            ImageError::Disk(_) => {
                Self::new(Code::Internal, message, "check that the directory exists and is mounted")
            }
            ImageError::NoRoom { path, .. } | ImageError::NoSpace { path } => {
                Self::new(Code::InsufficientResources, message, more_space(&path))
            }
            ImageError::Container(error) => (*error).into(),
            ImageError::Initrd(error) => unbootable(&error),
            ImageError::Io { source, .. } => Self::new(
                Code::Internal,
                format!("{message}: {source}"),
                "see the daemon's log; check the disk and the permissions",
            ),
        }
    }
}

/// The refusal for a kernel that cannot boot the machine of a container image.
fn unbootable(error: &InitrdError) -> Refusal {
    if matches!(error, InitrdError::BadInit { .. }) {
        let remedy = "install the one of this `handover`: `make install` does, and `make guest` in a checkout";
        return Refusal::new(Code::HypervisorMissing, error.to_string(), remedy);
    }
    Refusal::new(Code::InvalidRequest, error.to_string(), "boot another kernel: `--kernel IMAGE`")
}

/// The refusal for what a program or an archive prevents.
fn not_made(error: &ImageError, message: String) -> Refusal {
    match error {
        ImageError::NoTool { program } => {
            let package = match *program {
                "prlimit" | "setpriv" => "util-linux",
                "mke2fs" => "e2fsprogs",
                _ => "qemu-utils",
            };
            let remedy = format!("install it: `apt install {package}`");
            Refusal::new(Code::HypervisorMissing, message, remedy)
        }
        ImageError::Archive { .. } => Refusal::new(
            Code::InvalidRequest,
            message,
            "make it with `tar czf FILE.tar.gz -C DIR .`; it may have files, directories and links",
        ),
        ImageError::ArchiveTooLarge { .. } => {
            Refusal::new(Code::InvalidSize, message, "ask for a larger volume")
        }
        ImageError::Tool { program: "mke2fs", .. } => Refusal::new(
            Code::Internal,
            message,
            "nothing is left of it; the message has what mke2fs said: see also the daemon's log and `dmesg`",
        ),
        _ => Refusal::new(Code::InvalidImage, message, "check the image with `qemu-img check`"),
    }
}

/// The remedy for a full file system. What was being made there is removed again: its directory is named.
fn more_space(path: &Path) -> String {
    let path = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    format!(
        "free space (`df -h {}`), or remove unused images and volumes (`handover image list`, `handover volume list`)",
        path.display()
    )
}

/// The remedy for a path outside the configured directories.
fn outside_remedy(allowed: &[PathBuf]) -> String {
    if allowed.is_empty() {
        return "no import directory is configured; upload the file, or start the daemon with one: `handover serve --image-dir DIR`"
            .into();
    }
    let list: Vec<String> = allowed.iter().map(|dir| dir.display().to_string()).collect();
    format!(
        "move the file below {}, or upload it; `handover serve --image-dir DIR` allows another directory",
        list.join(" or ")
    )
}
