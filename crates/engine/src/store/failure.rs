//! Errors of the store: which are transient, and their remedies.

use std::io;
use std::path::Path;

use model::{Code, Refusal};
use own_files::Unfit;
use rusqlite::{Error, ErrorCode};

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
        Some(ErrorCode::DiskFull) => Refusal::new(
            Code::StateUnusable,
            format!("cannot write {place}: the disk is full"),
            format!("free some space (`df -h {place}` shows the file system), then retry"),
        ),
        _ => unusable(path, &error.to_string()),
    }
}

/// The refusal for a file or directory that is not Handover's; `None` for any other error.
pub fn unfit(path: &Path, error: &io::Error) -> Option<Refusal> {
    let unfit = Unfit::of(error)?;
    let message = format!("cannot use {}: {unfit}", path.display());
    Some(Refusal::new(Code::StateUnusable, message, unfit.remedy(path)))
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
