//! Copies of the store: made while the daemon runs, and put back while none does.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Code, Refusal};
use rusqlite::{Connection, OpenFlags};

use super::failure::{broken, unusable};
use super::lock::StoreLock;
use super::{NAME, check};

/// Copies the store of a state directory into a new file, as it is at one moment; a daemon can go on working meanwhile. The copy
/// is checked.
///
/// # Errors
/// `not_found` where there is no store, `already_exists` where the file exists, `state_unusable`.
pub fn backup(state_dir: &Path, to: &Path) -> Result<(), Refusal> {
    let path = state_dir.join(NAME);
    let store = open(&path)?;
    create(to)?;
    let copied = store
        .execute("VACUUM INTO ?", [to.to_string_lossy()])
        .map_err(|error| broken(&path, &error))
        .and_then(|_| checked(to))
        .and_then(|()| sync(to));
    copied.inspect_err(|_| {
        // What cannot be used must not pass for a backup.
        let _ = std::fs::remove_file(to);
    })
}

/// Puts a copy back in place of a state directory's store, which is kept beside it: the path of that file. The caller has
/// the host's lock.
///
/// # Errors
/// `state_locked` while another process has the store; `not_found`, `state_unusable` where the copy cannot be used.
pub fn restore(state_dir: &Path, from: &Path) -> Result<Option<PathBuf>, Refusal> {
    checked(from)?;
    std::fs::create_dir_all(state_dir)
        .map_err(|error| unusable(state_dir, &format!("it cannot be created: {error}")))?;
    let _lock = StoreLock::take(state_dir)?;
    let path = state_dir.join(NAME);
    let new = state_dir.join(format!("{NAME}.new"));
    let failed = |error: std::io::Error| unusable(&path, &error.to_string());
    let _ = std::fs::remove_file(&new);
    create(&new)?;
    std::fs::copy(from, &new).map_err(failed)?;
    sync(&new)?;
    let mut kept = None;
    if path.exists() {
        // Its log is carried over first: without it the file is an older one.
        let store = Connection::open(&path).map_err(|error| broken(&path, &error))?;
        // A damaged one is kept as it is.
        let _ = store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        drop(store);
        let old = state_dir.join(format!("{NAME}.replaced"));
        std::fs::rename(&path, &old).map_err(failed)?;
        kept = Some(old);
    }
    for log in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(state_dir.join(format!("{NAME}{log}")));
    }
    std::fs::rename(&new, &path).map_err(failed)?;
    File::open(state_dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(kept)
}

/// Opens a store to read it.
fn open(path: &Path) -> Result<Connection, Refusal> {
    if !path.exists() {
        return Err(Refusal::new(
            Code::NotFound,
            format!("there is no {}", path.display()),
            "name the directory by --state-dir, or the file",
        ));
    }
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| broken(path, &error))?;
    store.busy_timeout(Duration::from_secs(60)).map_err(|error| broken(path, &error))?;
    Ok(store)
}

/// Refuses a file that is no whole store of this version or an older one.
fn checked(path: &Path) -> Result<(), Refusal> {
    let version = check(&open(path)?, path)?;
    if version == 0 {
        return Err(unusable(path, "it is no store of Handover's"));
    }
    Ok(())
}

/// Creates an empty file that only its owner may read.
fn create(path: &Path) -> Result<(), Refusal> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map(drop).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::AlreadyExists => Code::AlreadyExists,
            _ => Code::StateUnusable,
        };
        let problem = format!("cannot create {}: {error}", path.display());
        Refusal::new(code, problem, "name a new file in a directory that exists")
    })
}

fn sync(path: &Path) -> Result<(), Refusal> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| unusable(path, &error.to_string()))
}
