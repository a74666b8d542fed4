//! Errors of the store: which of them pass, and what a person can do.

use std::path::Path;

use model::{Code, Refusal};
use rusqlite::{Error, ErrorCode};

/// Whether the cause can go away while we wait: another process's lock, a full disk, a file system that is slow or was
/// mounted read-only.
pub fn is_passing(error: &Error) -> bool {
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
            format!("`fuser -v {place}` names the process; end it, then try again"),
        ),
        Some(ErrorCode::DiskFull) => Refusal::new(
            Code::StateUnusable,
            format!("cannot write {place}: the disk is full"),
            format!("free some space (`df -h {place}` shows the file system), then try again"),
        ),
        _ => unusable(path, &error.to_string()),
    }
}

/// The refusal for a store that is of no use as it is.
pub fn unusable(path: &Path, problem: &str) -> Refusal {
    Refusal::new(
        Code::StateUnusable,
        format!("cannot use {}: {problem}", path.display()),
        format!(
            "check the disk; put back a copy of the file, or move it away and give devices back by hand. \
             `sqlite3 {} .recover` saves what can be read",
            path.display()
        ),
    )
}
