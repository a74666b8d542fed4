//! Opening what is to be imported: never a link out of its directory, never anything but a regular file.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use crate::ImageError;

/// How often a path is tried that renames were in the way of.
const TRIES: usize = 1000;

/// Where one part of an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file below one of the configured directories: relative to the first that has it, or an absolute path.
    Below(PathBuf),
    /// A file that a face has received for this import. The import takes it over, whether or not it succeeds.
    Staged(PathBuf),
}

impl Source {
    /// The path as it was given.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Below(path) | Self::Staged(path) => path,
        }
    }

    /// Opens the file for reading.
    pub(crate) fn open(&self, import_dirs: &[PathBuf]) -> Result<File, ImageError> {
        match self {
            Self::Below(path) => open_below(path, import_dirs),
            Self::Staged(path) => open_staged(path),
        }
    }
}

/// A staged file lies in a directory of our own; all that is asked is that it is a file.
fn open_staged(path: &Path) -> Result<File, ImageError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed(path, &[], error))?;
    expect_regular(&file, path)?;
    Ok(file.into())
}

/// Tries the directories in their order. An absolute path counts from the directory that contains it.
fn open_below(path: &Path, import_dirs: &[PathBuf]) -> Result<File, ImageError> {
    let outside = || ImageError::Outside { path: path.into(), allowed: import_dirs.to_vec() };
    let mut result = Err(outside());
    for dir in import_dirs {
        let relative = if path.is_absolute() {
            match path.strip_prefix(dir) {
                Ok(relative) => relative,
                Err(_) => continue,
            }
        } else {
            path
        };
        match open_beneath(dir, relative, path, import_dirs) {
            Err(error @ ImageError::NotFound { .. }) => result = Err(error),
            done => return done,
        }
    }
    result
}

/// Opens beneath a directory by `openat2`: the kernel refuses `..` and links that lead out of it, also while another
/// process renames things.
fn open_beneath(
    dir: &Path,
    relative: &Path,
    asked: &Path,
    allowed: &[PathBuf],
) -> Result<File, ImageError> {
    let dir_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, dir, dir_flags, Mode::empty())
        .map_err(|error| ImageError::io("open the import directory", dir, error))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = |flags: OFlags| {
        let once = |_| openat2(&top, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        // EAGAIN: something was renamed meanwhile, and the kernel cannot tell whether a `..` led out (openat2(2)).
        let opened = (1..TRIES).map(once).find(|opened| !matches!(opened, Err(Errno::AGAIN)));
        opened.unwrap_or_else(|| once(TRIES)).map_err(|error| failed(asked, allowed, error))
    };
    // The first look opens nothing: a device node or a pipe acts when it is opened.
    let seen = expect_regular(&open(OFlags::PATH)?, asked)?;
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    if expect_regular(&file, asked)? != seen {
        return Err(ImageError::NotAFile { path: asked.into() });
    }
    Ok(file.into())
}

/// The identity of a regular file; anything else is refused.
fn expect_regular(file: &OwnedFd, path: &Path) -> Result<(u64, u64), ImageError> {
    let stat = fstat(file).map_err(|error| ImageError::io("look at", path, error))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok((stat.st_dev, stat.st_ino))
    } else {
        Err(ImageError::NotAFile { path: path.into() })
    }
}

/// What the kernel's refusal to open means here.
fn failed(path: &Path, allowed: &[PathBuf], error: Errno) -> ImageError {
    match error {
        Errno::NOENT | Errno::NOTDIR => ImageError::NotFound { path: path.into() },
        // EXDEV: the path leaves the directory; ELOOP: a magic link, or a link where none may be.
        Errno::XDEV | Errno::LOOP => {
            ImageError::Outside { path: path.into(), allowed: allowed.to_vec() }
        }
        Errno::NXIO => ImageError::NotAFile { path: path.into() },
        error => ImageError::io("open", path, error),
    }
}
