//! Where a kernel's modules are read.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::InitrdError;

/// The files of a kernel's modules: what is below `/usr/lib/modules/VERSION`.
pub trait ModuleFiles {
    /// A file's contents by its path below the directory; none if it is not there. A larger file than `most` is an
    /// error.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, InitrdError>;
}

/// A directory of modules. Nothing outside of it is read, whatever links are in it.
#[derive(Debug)]
pub struct ModuleDirectory(OwnedFd);

impl ModuleDirectory {
    /// Opens a directory like `/usr/lib/modules/6.1.0-57-amd64`.
    ///
    /// # Errors
    /// It is not there, or no directory.
    pub fn open(path: &Path) -> Result<Self, InitrdError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map(Self).map_err(|errno| {
            InitrdError::Read { path: path.display().to_string(), source: errno.into() }
        })
    }
}

impl ModuleFiles for ModuleDirectory {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, InitrdError> {
        let failed = |source| InitrdError::Read { path: path.to_owned(), source };
        // A FIFO would block without O_NONBLOCK.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = match openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(std::io::Error::other("it is not a regular file")));
        }
        let mut contents = Vec::new();
        let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        file.take(bound).read_to_end(&mut contents).map_err(failed)?;
        if contents.len() > most {
            return Err(InitrdError::TooLarge { path: path.to_owned(), most });
        }
        Ok(Some(contents))
    }
}
