//! The lock that lets only one process open the store.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use model::{Code, Refusal};
use own_files::OwnFile;
use rustix::fs::{FlockOperation, flock};

use super::failure::unfit;

/// Only our user may open the lock file: others could take the lock and keep the daemon from starting.
const LOCK_MODE: u32 = 0o600;

/// How often to retry if the lock file is removed between opening and locking it.
const MAX_TRIES: usize = 10;

/// The lock on the store, until dropped. The file contains the pid of its owner.
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// `state_locked` with the pid if another process has the lock.
    pub fn take(state_dir: &Path) -> Result<Self, Refusal> {
        let path = state_dir.join("lock");
        let failed = |error: std::io::Error| {
            unfit(&path, &error).unwrap_or_else(|| {
                Refusal::new(
                    Code::StateUnusable,
                    format!("cannot use {}: {error}", path.display()),
                    "check the directory and its file system (`df` and `dmesg`), then retry",
                )
            })
        };
        for _ in 0..MAX_TRIES {
            let mut file = open(&path).map_err(failed)?;
            lock_file(&mut file, state_dir)?;
            // A lock on a file that was removed meanwhile protects nothing.
            if is_at(&file, &path).map_err(failed)? {
                file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Self { _file: file });
            }
        }
        Err(failed(std::io::Error::other("another process keeps removing it")))
    }
}

/// Locks the file, or refuses with the pid of the owner.
fn lock_file(file: &mut File, state_dir: &Path) -> Result<(), Refusal> {
    if flock(&*file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(());
    }
    // Best effort: the pid is only for the message.
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    Err(Refusal::new(
        Code::StateLocked,
        format!("{} is in use by another Handover (pid {})", state_dir.display(), pid.trim()),
        "use the daemon, or stop it: `systemctl stop handover`",
    ))
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    OwnFile::at(path)
        .mode(LOCK_MODE)
        .open(options.read(true).write(true).create(true).truncate(false))
}

/// Whether the path still names this file.
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
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
