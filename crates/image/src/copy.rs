//! Copying a part and computing its SHA-256: by reflink if the file system supports it, else without holes.

use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom as From};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::target::Target;
use crate::{Cancel, ImageError};

/// The buffer size: large enough to be fast, small enough for the daemon's memory, and for a prompt end.
const BUFFER: usize = 256 * 1024;

/// The mode of a part: VMMs run as different users, and all read the same base.
pub const MODE: u32 = 0o644;

/// A part in the store.
pub struct Copied {
    /// The file, open for reading.
    pub file: File,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its length in bytes.
    pub length: u64,
}

/// Checks a length before it is read.
type ExpectSize<'a> = &'a dyn Fn(u64) -> Result<(), ImageError>;

/// What interrupts reading.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    pub expect_size: ExpectSize<'a>,
    pub cancel: &'a Cancel,
}

/// Copies `source` to the new file `to`, and syncs it to disk.
pub fn copy(
    mut source: File,
    from: &Path,
    mut target: Target,
    to: &Path,
    bounds: Bounds<'_>,
) -> Result<Copied, ImageError> {
    let cloned = ioctl_ficlone(target.file(), &source).is_ok();
    if cloned {
        return hash(target.into_file(), to, bounds);
    }
    let found = source.metadata().map_err(|error| ImageError::io("read", from, error))?;
    (bounds.expect_size)(found.len())?;
    target.reserve(found.blocks().saturating_mul(512).min(found.len()))?;
    let (sha256, length) = transfer(&mut source, from, Some(&mut target), bounds)?;
    finish(target.into_file(), to, sha256, length)
}

/// Hashes a file that is in the store already, and syncs it.
pub fn hash(mut file: File, path: &Path, bounds: Bounds<'_>) -> Result<Copied, ImageError> {
    // A staged file is private.
    file.set_permissions(Permissions::from_mode(MODE))
        .map_err(|error| ImageError::io("set the mode of", path, error))?;
    let (sha256, length) = transfer(&mut file, path, None, bounds)?;
    finish(file, path, sha256, length)
}

fn finish(file: File, path: &Path, sha256: [u8; 32], length: u64) -> Result<Copied, ImageError> {
    file.sync_all().map_err(|error| ImageError::io("write", path, error))?;
    Ok(Copied { file, sha256, length })
}

/// Reads a file, hashes it, and writes its data without holes to `target`.
fn transfer(
    source: &mut File,
    from: &Path,
    mut target: Option<&mut Target>,
    bounds: Bounds<'_>,
) -> Result<([u8; 32], u64), ImageError> {
    let reading = |error: std::io::Error| ImageError::io("read", from, error);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    // The file may grow or shrink meanwhile: only the bytes that were read count, and the copy is checked afterwards.
    let length = source.metadata().map_err(reading)?.len();
    (bounds.expect_size)(length)?;
    while at < length {
        let (data, end) = next_data(source, at, length);
        hash_zeros(&mut digest, &mut buffer, data - at, bounds.cancel)?;
        source.seek(From::Start(data)).map_err(reading)?;
        if let Some(target) = &mut target {
            target.skip_to(data)?;
        }
        at = data;
        while at < end {
            bounds.cancel.check()?;
            let most = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let chunk = buffer.get_mut(..most).unwrap_or_default();
            let count = source.read(chunk).map_err(reading)?;
            let Some(chunk) = chunk.get(..count).filter(|chunk| !chunk.is_empty()) else {
                return Err(reading(std::io::ErrorKind::UnexpectedEof.into()));
            };
            digest.update(chunk);
            if let Some(target) = &mut target {
                target.write(chunk)?;
            }
            at += chunk.len() as u64;
        }
    }
    if let Some(target) = target {
        target.set_length(length)?;
    }
    bounds.cancel.check()?;
    Ok((digest.finalize().into(), length))
}

/// The range of the next data; everything is data if the file system does not support holes.
fn next_data(file: &File, at: u64, length: u64) -> (u64, u64) {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) if data < length => {
            let end = seek(file, SeekFrom::Hole(data)).unwrap_or(length);
            (data.max(at), end.clamp(data.max(at), length))
        }
        // ENXIO: only a hole is left.
        Ok(_) | Err(Errno::NXIO) => (length, length),
        Err(_) => (at, length),
    }
}

/// Hashes a hole, which reads as zeros.
fn hash_zeros(
    digest: &mut Sha256,
    buffer: &mut [u8],
    mut count: u64,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    if count > 0 {
        buffer.fill(0);
    }
    while count > 0 {
        cancel.check()?;
        let chunk = buffer.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        digest.update(buffer.get(..chunk).unwrap_or_default());
        count -= chunk as u64;
    }
    Ok(())
}
