//! Backups of the store: created while the daemon may run, and restored while no daemon runs.

use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Code, Refusal};
use own_files::expect_ours;
use rusqlite::{Connection, OpenFlags};

use super::failure::{Defect, broken, is_transient, unfit, unusable};
use super::lock::StoreLock;
use super::{FILE_MODE, NAME, check, make_state_dir, open_own};

/// Copies the store of a state directory into a new file, as of one moment; a daemon may run meanwhile. Checks the copy.
///
/// # Errors
/// `not_found` if there is no store, `already_exists` if the file exists, `state_unusable`.
pub fn backup(state_dir: &Path, to: &Path) -> Result<(), Refusal> {
    let path = state_dir.join(NAME);
    expect_ours(&path).map_err(|error| {
        unfit(&path, &error).unwrap_or_else(|| unusable(&path, &error.to_string()))
    })?;
    let store = open(&path)?;
    check(&store).map_err(|defect| defect.of_store(&path))?;
    copy(&store, &path, to)?;
    sync_dir(to)
}

/// Copies a store into a new file, and checks the copy.
fn copy(store: &Connection, path: &Path, to: &Path) -> Result<(), Refusal> {
    let plain = no_uri(to);
    let Some(name) = plain.to_str() else {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("cannot create {}: its name is not UTF-8", to.display()),
            "name the file with UTF-8",
        ));
    };
    create(to)?;
    let failed = |error: rusqlite::Error| {
        Refusal::new(
            Code::StateUnusable,
            format!("cannot copy {} to {}: {error}", path.display(), to.display()),
            format!("check the disks of both: `df -h {} {}`", path.display(), to.display()),
        )
    };
    let copied = store
        .execute("VACUUM INTO ?", [name])
        .map_err(failed)
        .and_then(|_| checked(to))
        .and_then(|()| sync(to));
    copied.inspect_err(|_| {
        // An unusable file must not look like a backup.
        let _ = std::fs::remove_file(to);
    })
}

/// The result of a restore.
#[derive(Debug)]
pub struct Restored {
    /// The replaced store, if there was one.
    pub kept: Option<PathBuf>,
    /// What claims made since the backup may have left on the host, and how to remove it.
    pub notes: Vec<String>,
}

/// Replaces a state directory's store by a backup. The old store is kept beside it. The caller has the host's lock.
///
/// # Errors
/// `state_locked` if another process has the store; `not_found` or `state_unusable` if the backup cannot be used.
pub fn restore(state_dir: &Path, from: &Path) -> Result<Restored, Refusal> {
    checked(from)?;
    make_state_dir(state_dir)?;
    let _lock = StoreLock::take(state_dir)?;
    let path = state_dir.join(NAME);
    let new = state_dir.join(format!("{NAME}.new"));
    let _ = std::fs::remove_file(&new);
    let replaced =
        copy(&open(from)?, from, &new).and_then(|()| close_operations(&new)).and_then(|()| {
            let notes = leftovers(&path, &new);
            replace(state_dir, &new).map(|kept| Restored { kept, notes })
        });
    if replaced.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    let restored = replaced?;
    sync_dir(&path)?;
    Ok(restored)
}

/// What claims of the old store, which the new one does not have, may have left on the host. A store that cannot be read
/// is replaced all the same.
fn leftovers(old: &Path, new: &Path) -> Vec<String> {
    if !old.exists() {
        return Vec::new();
    }
    let opened = open_own(old).and_then(|old| Ok((old, open_own(new)?)));
    let compared = opened
        .map_err(|refusal| refusal.message)
        .and_then(|(old, new)| super::leftovers::notes(&old, &new).map_err(|e| e.to_string()));
    compared.unwrap_or_else(|problem| {
        vec![format!(
            "cannot compare with the replaced state: {problem}; claims made since the backup may have left something: check \
             `handover boot-list --list`, `mdevctl list` and `ip link show`"
        )]
    })
}

/// Puts a new store in the place of the old one. There is a store at any moment, the old one or the new one.
fn replace(state_dir: &Path, new: &Path) -> Result<Option<PathBuf>, Refusal> {
    let path = state_dir.join(NAME);
    if path.exists() {
        write_back(&path)?;
    }
    let kept = keep(state_dir)?;
    std::fs::rename(new, &path).map_err(|error| unusable(&path, &error.to_string()))?;
    Ok(kept)
}

/// Closes what was under way when the backup was made: its claims may have other devices by now, or others their devices. What the
/// operations changed is restored with their claims.
fn close_operations(path: &Path) -> Result<(), Refusal> {
    let failed = |error: rusqlite::Error| broken(path, &error);
    let store = open_own(path)?;
    let close = "UPDATE operations SET state = 'failed', error = 'under way when the backup was made' WHERE state = 'open'";
    store.execute(close, []).map_err(failed)?;
    drop(store);
    sync(path)
}

/// Writes a store's log back to its file, so that the file alone has the latest state. A damaged store cannot do that.
fn write_back(path: &Path) -> Result<(), Refusal> {
    let store = open_own(path)?;
    let busy = store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    match busy {
        Ok(true) => Err(in_use(path)),
        Err(error) if is_transient(&error) => Err(broken(path, &error)),
        Ok(false) | Err(_) => Ok(()),
    }
}

fn in_use(path: &Path) -> Refusal {
    let path = path.display();
    Refusal::new(
        Code::StateUnusable,
        format!("cannot replace {path}: another process reads it"),
        format!("`fuser -v {path}` names the process; end it, then try again"),
    )
}

/// Keeps the store under another name, with what a damaged one has in its log; returns the name if there was a store. Its own
/// name stays until it is replaced. A log without its store is also moved: SQLite would apply it to the next store.
fn keep(state_dir: &Path) -> Result<Option<PathBuf>, Refusal> {
    let path = state_dir.join(NAME);
    let failed = |error: std::io::Error| unusable(&path, &error.to_string());
    let mut number = 1;
    let (old, kept) = loop {
        let old = state_dir.join(format!("{NAME}.replaced-{number}"));
        let free = LOGS.iter().all(|log| !beside(&old, log).exists());
        match std::fs::hard_link(&path, &old) {
            Ok(()) => break (old.clone(), Some(old)),
            Err(error) if error.kind() == ErrorKind::NotFound && free && !old.exists() => {
                break (old, None);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) =>
            {
                number += 1;
            }
            Err(error) => return Err(failed(error)),
        }
    };
    for log in LOGS {
        match std::fs::rename(beside(&path, log), beside(&old, log)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(kept)
}

/// The endings of the files that SQLite has beside a store (sqlite.org/tempfiles.html).
const LOGS: [&str; 2] = ["-wal", "-shm"];

fn beside(store: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", store.display()))
}

/// A path that SQLite does not take for a URI or for a database in memory (sqlite.org/uri.html).
fn no_uri(path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_owned() } else { Path::new(".").join(path) }
}

/// Makes the directory entry of a file durable.
fn sync_dir(path: &Path) -> Result<(), Refusal> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| unusable(dir, &error.to_string()))
}

/// Opens a store to read it.
fn open(path: &Path) -> Result<Connection, Refusal> {
    if !path.exists() {
        return Err(Refusal::new(
            Code::NotFound,
            format!("{} does not exist", path.display()),
            "check --state-dir, or the path of the backup",
        ));
    }
    // Opening a FIFO would wait for a writer.
    if !path.is_file() {
        return Err(Defect::Damaged("it is not a regular file".to_owned()).of_backup(path));
    }
    // SQLite does not say why it cannot open a file.
    if File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
        return Err(Refusal::new(
            Code::Forbidden,
            format!("cannot read {}: permission denied", path.display()),
            "run as root",
        ));
    }
    let store = Connection::open_with_flags(no_uri(path), OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| broken(path, &error))?;
    store.busy_timeout(Duration::from_secs(60)).map_err(|error| broken(path, &error))?;
    Ok(store)
}

/// Refuses a file that is not an intact store of this version or an older one.
fn checked(path: &Path) -> Result<(), Refusal> {
    let defect = match check(&open(path)?) {
        Ok(0) => Defect::Damaged("it is not a state file of Handover".to_owned()),
        Ok(_) => return Ok(()),
        Err(defect) => defect,
    };
    Err(defect.of_backup(path))
}

/// Creates an empty file that only its owner may read.
fn create(path: &Path) -> Result<(), Refusal> {
    // Exclusive creation follows no link (open(2)).
    let created = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    let set = |file: File| file.set_permissions(Permissions::from_mode(FILE_MODE));
    created.and_then(set).map_err(|error| {
        let code = match error.kind() {
            ErrorKind::AlreadyExists => Code::AlreadyExists,
            _ => Code::InvalidRequest,
        };
        let problem = format!("cannot create {}: {error}", path.display());
        Refusal::new(code, problem, "name a new file in a directory that exists")
    })
}

fn sync(path: &Path) -> Result<(), Refusal> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| unusable(path, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::no_uri;

    #[test]
    fn a_name_is_never_a_uri_or_a_database_in_memory() {
        assert_eq!(no_uri(Path::new("file:copy")), Path::new("./file:copy"));
        assert_eq!(no_uri(Path::new(":memory:")), Path::new("./:memory:"));
        assert_eq!(no_uri(Path::new("/tmp/copy")), Path::new("/tmp/copy"));
    }
}
