//! The directory of a running lab, and the logs that it leaves.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// A running lab's directory. It is removed when this is dropped; the next lab removes that of a killed lab.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked while the lab is running, so that the next lab does not remove the directory.
    _lock: File,
}

impl Folder {
    /// Creates a directory, and removes those of labs that are gone.
    pub fn make(prefix: &str) -> Result<Self> {
        let state = state()?;
        // One at a time: a sweep would remove a directory whose lab has not locked it yet.
        let turn = File::create(state.join("turn"))?;
        flock(&turn, FlockOperation::LockExclusive)?;
        sweep(&state);
        let path =
            tempfile::Builder::new().prefix(&format!("{prefix}-")).tempdir_in(&state)?.keep();
        let lock = File::create(path.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, _lock: lock })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the logs to a directory that outlives the lab, and returns it. Only those of the last lab are kept.
    pub fn keep_logs(&self) -> Result<PathBuf> {
        let kept = state()?.join("last-failure");
        fs::create_dir_all(&kept)?;
        for name in ["console.log", "qemu.log", "command"] {
            if self.path.join(name).exists() {
                fs::copy(self.path.join(name), kept.join(name))?;
            }
        }
        Ok(kept)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The directory of this user's labs: in `$XDG_RUNTIME_DIR`, else in `/tmp`.
pub fn state() -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let path = match std::env::var_os("XDG_RUNTIME_DIR").filter(|v| !v.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("handover-lab"),
        None => PathBuf::from(format!("/tmp/handover-lab-{uid}")),
    };
    fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::symlink_metadata(&path)?);
    anyhow::ensure!(owner == uid, "{} belongs to another user", path.display());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(path)
}

/// Removes the directories of labs that are gone.
fn sweep(state: &Path) {
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let Ok(lock) = File::open(entry.path().join("lock")) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A program that was built together with this one. The program of a test is in the subdirectory `deps`.
pub fn beside(name: &str) -> Option<PathBuf> {
    let mine = std::env::current_exe().ok()?;
    let folder = mine.parent()?;
    [folder, folder.parent()?].into_iter().map(|dir| dir.join(name)).find(|path| path.is_file())
}
