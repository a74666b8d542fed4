//! The folder of a running lab, and of what it leaves.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// A running lab's folder. It is removed with this value; one whose lab was killed is removed by the next lab.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held as long as the lab runs: the next lab tells by it that this one lives.
    _lock: File,
}

impl Folder {
    /// A new folder, and the end of those whose labs are gone.
    pub fn make(prefix: &str) -> Result<Self> {
        let state = state()?;
        // One at a time, or a sweep would take a folder whose lab has not locked it yet.
        let turn = File::create(state.join("turn"))?;
        flock(&turn, FlockOperation::LockExclusive)?;
        sweep(&state);
        let path =
            tempfile::Builder::new().prefix(&format!("{prefix}-")).tempdir_in(&state)?.keep();
        let lock = File::create(path.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the logs to a place that outlives the lab, and returns it. Only the last lab's are kept.
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

/// Where all labs of this user have their state: `$XDG_RUNTIME_DIR`, else a folder of his in `/tmp`.
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

/// Removes folders whose labs are gone.
fn sweep(state: &Path) {
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let Ok(lock) = File::open(entry.path().join("lock")) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A program that was built together with this one. A test's own program lies in `deps`, one folder further down.
pub fn beside(name: &str) -> Option<PathBuf> {
    let mine = std::env::current_exe().ok()?;
    let folder = mine.parent()?;
    [folder, folder.parent()?].into_iter().map(|dir| dir.join(name)).find(|path| path.is_file())
}
