//! A file that is written within the budget.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use own_files::OwnFile;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::ImageError;
use crate::budget::Allowance;

/// A new file of the store, or of an upload.
pub struct Target {
    file: File,
    path: PathBuf,
    allowance: Allowance,
}

impl Target {
    /// Creates the file.
    pub(crate) fn create(path: &Path, mode: u32, allowance: Allowance) -> Result<Self, ImageError> {
        let file = OwnFile::at(path)
            .mode(mode)
            .open(OpenOptions::new().read(true).write(true).create_new(true))
            .map_err(|error| ImageError::io("create", path, error))?;
        Ok(Self { file, path: path.to_owned(), allowance })
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Reserves space for data of this many bytes.
    pub(crate) fn reserve(&mut self, count: u64) -> Result<(), ImageError> {
        self.allowance.reserve(count)
    }

    /// Continues at this offset, and leaves a hole before it.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<(), ImageError> {
        self.file
            .seek(SeekFrom::Start(offset))
            .map(drop)
            .map_err(|error| ImageError::io("write", &self.path, error))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.allowance.take(bytes.len() as u64)?;
        self.file.write_all(bytes).map_err(|error| ImageError::io("write", &self.path, error))?;
        self.allowance.wrote();
        Ok(())
    }

    /// Writes at an offset, wherever the end of the file is.
    pub(crate) fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        self.allowance.take(bytes.len() as u64)?;
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| ImageError::io("write", &self.path, error))?;
        self.allowance.wrote();
        Ok(())
    }

    /// Reads at an offset. What is behind the end of the file is zero.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ImageError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => return Ok(()),
                Ok(count) => filled += count,
                Err(error) => return Err(ImageError::io("read", &self.path, error)),
            }
        }
        Ok(())
    }

    /// Makes a hole. A file system without holes keeps what was there, which no one reads.
    pub(crate) fn punch(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        if length == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, length) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(ImageError::io("write", &self.path, error)),
        }
    }

    /// Syncs the file to disk.
    pub(crate) fn sync(&self) -> Result<(), ImageError> {
        self.file.sync_all().map_err(|error| ImageError::io("write", &self.path, error))
    }

    /// Extends the file by a last hole.
    pub(crate) fn set_length(&self, length: u64) -> Result<(), ImageError> {
        self.file.set_len(length).map_err(|error| ImageError::io("write", &self.path, error))
    }
}

/// A file that is being received. Its methods block while the disk is busy.
pub struct Received {
    target: Target,
    part: &'static str,
    length: u64,
}

impl Received {
    /// Creates the file, readable by its owner only. `part` is `disk`, `kernel` or `initrd`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(
        path: &Path,
        part: &'static str,
        allowance: Allowance,
    ) -> Result<Self, ImageError> {
        Target::create(path, 0o600, allowance).map(|target| Self { target, part, length: 0 })
    }

    /// Appends what was received.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`], [`ImageError::NoRoom`], and if it cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        self.target.allowance.budget().expect_size(self.part, self.length)?;
        self.target.write(bytes)
    }

    /// What is left of the allowance, for the next file.
    pub fn into_allowance(self) -> Allowance {
        self.target.allowance
    }
}
