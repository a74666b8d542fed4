//! Opening a source: never through a link out of its directory, and only a regular file.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use crate::ImageError;

/// How often a path lookup is retried after EAGAIN because of concurrent renames.
const TRIES: usize = 1000;

/// The source of one part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file below one of the configured directories: an absolute path, or relative to the first directory that has
    /// it.
    Below(PathBuf),
    /// A file that was uploaded for this import. The import removes it, whether or not it succeeds.
    Staged(PathBuf),
}

impl Source {
    /// The path from the request.
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

/// Opens a staged file. It is in our own directory, so it only needs to be a regular file.
fn open_staged(path: &Path) -> Result<File, ImageError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed(path, &[], error))?;
    expect_regular(&file, path)?;
    Ok(file.into())
}

/// Tries the directories in order. An absolute path is opened beneath the directory that contains it.
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

/// Opens a file beneath a directory with openat2(2): the kernel refuses `..` and links that lead out of it, even during
/// concurrent renames.
fn open_beneath(
    dir: &Path,
    relative: &Path,
    requested: &Path,
    allowed: &[PathBuf],
) -> Result<File, ImageError> {
    let dir_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, dir, dir_flags, Mode::empty())
        .map_err(|error| ImageError::io("open the import directory", dir, error))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = |flags: OFlags| {
        let once = |_| openat2(&top, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        // EAGAIN: after a concurrent rename the kernel cannot check whether a `..` led out (openat2(2)).
        let opened = (1..TRIES).map(once).find(|opened| !matches!(opened, Err(Errno::AGAIN)));
        opened.unwrap_or_else(|| once(TRIES)).map_err(|error| failed(requested, allowed, error))
    };
    // Checked with O_PATH first: opening a device node or a pipe can have an effect.
    let checked = expect_regular(&open(OFlags::PATH)?, requested)?;
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    if expect_regular(&file, requested)? != checked {
        return Err(ImageError::NotAFile { path: requested.into() });
    }
    Ok(file.into())
}

/// The device and inode of a regular file; any other file is refused.
fn expect_regular(file: &OwnedFd, path: &Path) -> Result<(u64, u64), ImageError> {
    let stat = fstat(file).map_err(|error| ImageError::io("stat", path, error))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok((stat.st_dev, stat.st_ino))
    } else {
        Err(ImageError::NotAFile { path: path.into() })
    }
}

/// Converts the kernel's error for an open.
fn failed(path: &Path, allowed: &[PathBuf], error: Errno) -> ImageError {
    match error {
        Errno::NOENT | Errno::NOTDIR => ImageError::NotFound { path: path.into() },
        // EXDEV: the path leaves the directory; ELOOP: a magic link, or a link that is not allowed.
        Errno::XDEV | Errno::LOOP => {
            ImageError::Outside { path: path.into(), allowed: allowed.to_vec() }
        }
        Errno::NXIO => ImageError::NotAFile { path: path.into() },
        error => ImageError::io("open", path, error),
    }
}
