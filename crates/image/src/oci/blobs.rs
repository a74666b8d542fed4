//! The blobs of container images: files named by the SHA-256 of their content, shared by all images.
//!
//! A blob is written beside its place, verified, synced and renamed: what has its name is complete.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::ContainerError;
use crate::layers::shown_digest;
use crate::store::{make_dir, sync_dir};
use crate::target::Target;
use crate::{Budget, Cancel, ImageError};

/// The prefix of files that are being written.
pub const UNFINISHED: &str = "unfinished-";

/// How much is copied at a time.
const BUFFER: usize = 256 << 10;

/// Blobs are not for other users: what is in an image can be secret.
const MODE: u32 = 0o600;

/// The directory of blobs.
#[derive(Clone)]
pub struct Blobs {
    dir: PathBuf,
    budget: Arc<Budget>,
}

/// A blob that is being written.
pub struct NewBlob {
    target: Target,
    path: PathBuf,
    digest: Sha256,
    length: u64,
    most: u64,
    done: bool,
}

impl Blobs {
    /// The blobs below the directory of a store.
    pub fn below(store: &Path, budget: Arc<Budget>) -> Self {
        Self { dir: store.join("blobs").join("sha256"), budget }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a blob; an error if its digest is not a SHA-256.
    pub fn path(&self, digest: &str) -> Result<PathBuf, ContainerError> {
        Ok(self.dir.join(hex(digest)?))
    }

    /// Opens a blob, if it is there.
    pub fn open(&self, digest: &str) -> Result<Option<File>, ImageError> {
        let path = self.path(digest)?;
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io("read", path, error)),
        }
    }

    /// Whether a blob of this digest and size is there.
    pub fn has(&self, digest: &str, size: u64) -> Result<bool, ImageError> {
        let Some(file) = self.open(digest)? else { return Ok(false) };
        let found = file.metadata().map_err(|error| ImageError::io("read", &self.dir, error))?;
        Ok(found.len() == size)
    }

    /// Reads a small blob.
    pub fn read(&self, digest: &str, most: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(file) = self.open(digest)? else { return Ok(None) };
        let read = own_files::read_open(&file, most);
        read.map(Some).map_err(|error| ImageError::io("read", &self.dir, error))
    }

    /// The largest blob.
    pub fn largest(&self) -> u64 {
        self.budget.largest_file()
    }

    /// Begins a blob of at most this many bytes.
    pub fn begin(&self, most: u64) -> Result<NewBlob, ImageError> {
        for dir in self.dir.parent().into_iter().chain([self.dir.as_path()]) {
            make_dir(dir)?;
        }
        self.budget.expect_size("layer", most)?;
        let path = self.dir.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
        let target = Target::create(&path, MODE, self.budget.allowance(&self.dir))?;
        Ok(NewBlob { target, path, digest: Sha256::new(), length: 0, most, done: false })
    }

    /// Stores what a reader has, as a blob of this size and digest.
    pub fn take(
        &self,
        from: &mut dyn Read,
        wanted: &Wanted,
        place: &str,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        if self.has(&wanted.digest, wanted.size)? {
            return Ok(());
        }
        let blob = self.copy(from, wanted.size, place, cancel)?;
        self.finish(blob, wanted, place)
    }

    /// Stores what a reader has, and returns the blob, whose digest is not known yet.
    pub fn copy(
        &self,
        from: &mut dyn Read,
        most: u64,
        place: &str,
        cancel: &Cancel,
    ) -> Result<NewBlob, ImageError> {
        let mut blob = self.begin(most)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            cancel.check()?;
            let count = from.read(&mut buffer);
            let count = count.map_err(|error| ImageError::io("read", place, error))?;
            match buffer.get(..count).filter(|chunk| !chunk.is_empty()) {
                Some(chunk) => blob.append(chunk, place)?,
                None => return Ok(blob),
            }
        }
    }

    /// Puts a blob in its place, if it is the wanted one.
    pub fn finish(&self, blob: NewBlob, wanted: &Wanted, place: &str) -> Result<(), ImageError> {
        let expected = wanted.digest.clone();
        if blob.length != wanted.size {
            return Err(ContainerError::WrongSize { place: place.to_owned(), expected }.into());
        }
        let found = shown_digest(&blob.digest.clone().finalize());
        if found != expected {
            let place = place.to_owned();
            return Err(ContainerError::WrongDigest { place, found, expected }.into());
        }
        self.keep(blob).map(drop)
    }

    /// Puts a blob in its place, whatever it is, and returns its digest and size.
    pub fn keep(&self, mut blob: NewBlob) -> Result<Wanted, ImageError> {
        blob.target.sync()?;
        let digest = shown_digest(&blob.digest.clone().finalize());
        let path = self.path(&digest)?;
        self.budget.between_changes();
        fs::rename(&blob.path, &path).map_err(|error| ImageError::io("rename", &path, error))?;
        blob.done = true;
        sync_dir(&self.dir)?;
        Ok(Wanted { digest, size: blob.length })
    }

    /// Stores bytes.
    pub fn put(&self, bytes: &[u8]) -> Result<Wanted, ImageError> {
        let mut blob = self.begin(bytes.len() as u64)?;
        blob.append(bytes, "")?;
        self.keep(blob)
    }
}

/// A blob that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `sha256:HEX`.
    pub digest: String,
    /// In bytes.
    pub size: u64,
}

impl NewBlob {
    /// How much was written.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Appends what was received from a place.
    pub fn append(&mut self, bytes: &[u8], place: &str) -> Result<(), ImageError> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.most {
            let (place, expected) = (place.to_owned(), "it is larger".to_owned());
            return Err(ContainerError::WrongSize { place, expected }.into());
        }
        self.digest.update(bytes);
        self.target.write(bytes)
    }

    /// Forgets what was written.
    pub fn restart(&mut self) -> Result<(), ImageError> {
        self.length = 0;
        self.digest = Sha256::new();
        self.target.set_length(0)?;
        self.target.skip_to(0)
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.done {
            // What a crash leaves is removed when the daemon starts.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The hexadecimal digits of a SHA-256.
pub fn hex(digest: &str) -> Result<&str, ContainerError> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    hex.ok_or_else(|| ContainerError::UnknownDigest { digest: digest.to_owned() })
}
