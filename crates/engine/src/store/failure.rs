//! Errors of the store: which are transient, and their remedies.

use std::io;
use std::path::Path;

use model::{Code, Refusal};
use own_files::Unfit;
use rusqlite::{Error, ErrorCode};

use super::schema::MIGRATIONS;

/// Whether the error is transient: another process's lock, a full disk, a file system that is slow or mounted
/// read-only.
pub fn is_transient(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
        )
    )
}

/// The refusal for an error of SQLite.
pub fn broken(path: &Path, error: &Error) -> Refusal {
    let place = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            unusable(path, &format!("it is damaged: {error}"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Refusal::new(
            Code::StateUnusable,
            format!("cannot use {place}: another process has it locked"),
            format!("`fuser -v {place}` shows the process; end it, then retry"),
        ),
        Some(ErrorCode::DiskFull) => full(path),
        // Of a file that SQLite has beside it.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_full(path) => full(path),
        _ => unusable(path, &error.to_string()),
    }
}

fn full(path: &Path) -> Refusal {
    let place = path.display();
    Refusal::new(
        Code::StateUnusable,
        format!("cannot write {place}: the disk is full"),
        format!("free some space (`df -h {place}` shows the file system), then retry"),
    )
}

/// Whether nothing is left on the file system of this file.
fn is_full(path: &Path) -> bool {
    let dir = path.parent().unwrap_or(path);
    rustix::fs::statvfs(dir).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < 1 << 20)
}

/// The refusal for a file or directory that is not Handover's, or that this user may not use; `None` for any other
/// error.
pub fn unfit(path: &Path, error: &io::Error) -> Option<Refusal> {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Some(Refusal::new(
            Code::Forbidden,
            format!("this user may not use {}: {error}", path.display()),
            "run the command as root, for example with sudo",
        ));
    }
    let unfit = Unfit::of(error)?;
    let message = format!("cannot use {}: {unfit}", path.display());
    Some(Refusal::new(Code::StateUnusable, message, unfit.remedy(path)))
}

/// Why the content of a file is not a store that can be used.
#[derive(Debug)]
pub enum Defect {
    /// It is damaged, or no store.
    Damaged(String),
    /// A newer version of Handover wrote it, in this format.
    Newer(usize),
    /// SQLite cannot read it.
    Sql(Error),
}

impl Defect {
    /// The refusal for the store of a state directory.
    pub fn of_store(&self, path: &Path) -> Refusal {
        match self {
            Self::Damaged(problem) => unusable(path, problem),
            Self::Newer(version) => newer(path, *version),
            Self::Sql(error) => broken(path, error),
        }
    }

    /// The refusal for a backup.
    pub fn of_backup(&self, path: &Path) -> Refusal {
        let problem = match self {
            Self::Damaged(problem) => problem.clone(),
            Self::Newer(version) => return newer(path, *version),
            Self::Sql(error) => error.to_string(),
        };
        Refusal::new(
            Code::StateUnusable,
            format!("cannot use the backup {}: {problem}", path.display()),
            "use another backup; no state was changed",
        )
    }
}

impl From<Error> for Defect {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

fn newer(path: &Path, version: usize) -> Refusal {
    let (path, ours) = (path.display(), MIGRATIONS.len());
    Refusal::new(
        Code::StateUnusable,
        format!(
            "{path} was written by a newer version of Handover (its format is {version}, ours is {ours})"
        ),
        "install that version again; no device was changed",
    )
}

/// The refusal for a store that cannot be used.
pub fn unusable(path: &Path, problem: &str) -> Refusal {
    Refusal::new(
        Code::StateUnusable,
        format!("cannot use {}: {problem}", path.display()),
        format!(
            "check the disk; restore a backup of the file, or move it away and return devices by hand. \
             `sqlite3 {} .recover` prints what can be read",
            path.display()
        ),
    )
}
