//! Reading a store that another process may have open.

use std::io::ErrorKind;
use std::path::Path;

use model::{Code, Refusal};
use rusqlite::{Connection, OpenFlags};

use super::failure::{broken, unusable};
use super::{BUSY_TIMEOUT, NAME, resolved, schema};

/// Reads the store of a state directory in one transaction; `None` if there is none. Takes no lock that a daemon would
/// notice, and writes nothing but SQLite's own index of its log.
///
/// # Errors
/// `forbidden`, `state_unusable`.
pub fn read_only<T>(
    state_dir: &Path,
    reading: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, Refusal> {
    let path = state_dir.join(NAME);
    match std::fs::File::open(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(Refusal::new(
                Code::Forbidden,
                format!("cannot read {}: {error}", path.display()),
                "run the command as root to see claims",
            ));
        }
        Err(error) => return Err(unusable(&path, &error.to_string())),
    }
    let real = resolved(&path).map_err(|error| unusable(&path, &error.to_string()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let read = || {
        let mut connection = Connection::open_with_flags(&real, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let transaction = connection.transaction()?;
        let format: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if usize::try_from(format) != Ok(schema::MIGRATIONS.len()) {
            return Ok(None);
        }
        reading(&transaction).map(Some)
    };
    let found = read().map_err(|error| broken(&path, &error))?;
    found.map(Some).ok_or_else(|| {
        unusable(
            &path,
            "it has the format of another version of Handover; run the command of that version",
        )
    })
}
