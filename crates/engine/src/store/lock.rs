//! One store, one process.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use model::{Code, Refusal};
use rustix::fs::{FlockOperation, flock};

/// Who can open the file can take the lock, and keep the daemon from starting.
const OURS_ALONE: u32 = 0o600;

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
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(OURS_ALONE)
            .open(&path)
            .map_err(failed)?;
        file.set_permissions(Permissions::from_mode(OURS_ALONE)).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            return Err(Refusal::new(
                Code::StateLocked,
                format!(
                    "{} is in use by another Handover (pid {})",
                    state_dir.display(),
                    pid.trim()
                ),
                "go through the daemon, or stop it: systemctl stop handover",
            ));
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
