//! One store, one process.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use model::{Code, Refusal};
use rustix::fs::{FlockOperation, flock};

/// Who can open the file can take the lock, and keep the daemon from starting.
const OURS_ALONE: u32 = 0o600;

/// How often a lock file may be removed between its opening and its locking.
const TRIES: usize = 10;

/// The lock on the store, until dropped. The file carries the pid of the process that has it.
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// `state_locked` where another process has it, by its pid.
    pub fn take(state_dir: &Path) -> Result<Self, Refusal> {
        let path = state_dir.join("lock");
        let failed = |error: std::io::Error| {
            Refusal::new(
                Code::StateUnusable,
                format!("cannot use {}: {error}", path.display()),
                "run as root, or as a user who may write there",
            )
        };
        for _ in 0..TRIES {
            let mut file = open(&path).map_err(failed)?;
            expect_free(&mut file, state_dir)?;
            // A lock on a file that was removed meanwhile protects nothing.
            if is_at(&file, &path).map_err(failed)? {
                file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Self { _file: file });
            }
        }
        Err(failed(std::io::Error::other("it is removed again and again")))
    }
}

/// Locks the file.
fn expect_free(file: &mut File, state_dir: &Path) -> Result<(), Refusal> {
    if flock(&*file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(());
    }
    // Who has it is told as far as it can be read.
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    Err(Refusal::new(
        Code::StateLocked,
        format!("{} is in use by another Handover (pid {})", state_dir.display(), pid.trim()),
        "go through the daemon, or stop it: systemctl stop handover",
    ))
}

fn open(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(OURS_ALONE)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(OURS_ALONE))?;
    Ok(file)
}

/// Whether the path leads to this very file.
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_removed_or_replaced_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let file = open(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        let other = open(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap() && is_at(&other, &path).unwrap());
    }
}
