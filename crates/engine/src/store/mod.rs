//! The store: one SQLite file, one writer.

pub mod backup;
mod claims;
mod devices;
mod failure;
mod health;
mod images;
mod instances;
mod journal;
mod lock;
mod schema;
mod vf_counts;

use std::fmt::Display;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{Code, Refusal};
use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use claims::StoredClaim;
pub use devices::StoredDevice;
pub use health::Health;
pub use images::StoredImage;
pub use instances::StoredInstance;
pub use journal::{OpenOperation, Recorded};
pub use vf_counts::VfCount;

use crate::lock::lock;
use failure::{broken, is_passing, unusable};
use lock::StoreLock;

/// The file in the state directory.
const NAME: &str = "state.db";

/// How surely a commit must last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Over a loss of power: what is acknowledged to somebody.
    Power,
    /// Over the death of the process: steps, whose effects a loss of power takes with it.
    Process,
}

/// How long SQLite itself waits for another process's lock, each time; the connection is taken meanwhile.
const BUSY: Duration = Duration::from_millis(200);

/// How long to wait before a failed write is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// A log of this size, in bytes, has a reader that keeps it from being emptied.
const LARGE_LOG: u64 = 64 << 20;

/// How many statements stay parsed: all that the store has.
const STATEMENTS: usize = 128;

/// How long a write is retried at most that no operation under way depends on.
const BRIEFLY: Duration = Duration::from_secs(5);

/// The open store of a host.
pub struct Store {
    connection: Mutex<Writer>,
    path: PathBuf,
    id: Uuid,
    /// How long a write is retried that no operation under way depends on.
    patience: Mutex<Duration>,
    // Kept until everything else is closed.
    _lock: StoreLock,
}

struct Writer {
    connection: Connection,
    /// How surely a commit lasts now; `None` where it is not known.
    durability: Option<Durability>,
}

impl Writer {
    fn expect(&mut self, durability: Durability) -> rusqlite::Result<()> {
        if self.durability == Some(durability) {
            return Ok(());
        }
        let level = match durability {
            Durability::Power => "FULL",
            Durability::Process => "NORMAL",
        };
        self.durability = None;
        self.connection.pragma_update(None, "synchronous", level)?;
        self.durability = Some(durability);
        Ok(())
    }
}

impl Store {
    /// Opens or makes `state.db`, and takes the store's lock.
    ///
    /// # Errors
    /// `state_locked`, `state_unusable`.
    pub fn open(state_dir: &Path) -> Result<Self, Refusal> {
        std::fs::create_dir_all(state_dir)
            .map_err(|error| unusable(state_dir, &format!("it cannot be made: {error}")))?;
        let lock = StoreLock::take(state_dir)?;
        let path = state_dir.join(NAME);
        let mut connection = Connection::open(&path).map_err(|error| broken(&path, &error))?;
        // Command lines and labels are nobody else's business; SQLite gives its other files the same mode.
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(|error| unusable(&path, &format!("its mode cannot be set: {error}")))?;
        prepare(&mut connection, &path)?;
        let id = connection
            .query_row("SELECT id FROM identity", [], |row| text(row, "id"))
            .map_err(|error| broken(&path, &error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Else a statement is parsed again whenever its values are others, for a better plan than small tables need.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(|error| broken(&path, &error))?;
        connection.busy_timeout(BUSY).map_err(|error| broken(&path, &error))?;
        let writer = Writer { connection, durability: None };
        let patience = Mutex::new(BRIEFLY);
        Ok(Self { connection: Mutex::new(writer), path, id, patience, _lock: lock })
    }

    /// Which store it is, wherever its file is.
    pub const fn id(&self) -> Uuid {
        self.id
    }

    fn connection(&self) -> MutexGuard<'_, Writer> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses where the disk may be full before an operation is recorded to its end: what is not recorded is not undone
    /// either. SQLite alone would find out in the middle, for it fills what is left of its log first.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn expect_room(&self) -> Result<(), Refusal> {
        let failed = |error: std::io::Error| unusable(&self.path, &error.to_string());
        let disk = rustix::fs::statvfs(&self.path).map_err(|errno| failed(errno.into()))?;
        enough(&self.path, disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Reads.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn read<T>(
        &self,
        reading: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Refusal> {
        reading(&self.connection().connection).map_err(|error| broken(&self.path, &error))
    }

    /// Limits how long writes are retried, and how long SQLite itself waits for another process's lock.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn limit_patience(&self, most: Duration) -> Result<(), Refusal> {
        *lock(&self.patience) = BRIEFLY.min(most);
        let set = self.connection().connection.busy_timeout(most.min(BUSY));
        set.map_err(|error| broken(&self.path, &error))
    }

    /// Writes all of it or nothing, while no operation is under way: the caller can simply try again.
    ///
    /// # Errors
    /// As [`write_patiently`](Self::write_patiently).
    pub fn write<T>(
        &self,
        durability: Durability,
        writing: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Refusal> {
        let patience = *lock(&self.patience);
        self.write_patiently(durability, patience, writing)
    }

    /// Writes all of it or nothing. Where the disk is full or another process has the file locked, it is tried again for
    /// `patience`; others can read meanwhile.
    ///
    /// # Errors
    /// `state_unusable`; then nothing of it is written.
    pub fn write_patiently<T>(
        &self,
        durability: Durability,
        patience: Duration,
        mut writing: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Refusal> {
        let until = Instant::now() + patience;
        loop {
            let error = match self.commit(durability, &mut writing) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let left = until.saturating_duration_since(Instant::now());
            if !is_passing(&error) || left.is_zero() {
                return Err(broken(&self.path, &error));
            }
            std::thread::sleep(AGAIN.min(left));
        }
    }

    /// Carries the log over to the file and empties it, where no reader needs it any more. A log that stays large is reported.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn keep_log_small(&self) -> Result<(), Refusal> {
        {
            let writer = self.connection();
            // Where a reader is in the way this does what it can.
            let emptied =
                writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            if let Err(error) = emptied
                && !is_passing(&error)
            {
                return Err(broken(&self.path, &error));
            }
        }
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let size = std::fs::metadata(&log).map_or(0, |log| log.len());
        if size > LARGE_LOG {
            let path = self.path.display();
            tracing::warn!(
                "{path}-wal has {} MiB: another process reads {path} without end; `fuser -v {path}` names it, end it",
                size >> 20
            );
        }
        Ok(())
    }

    fn commit<T>(
        &self,
        durability: Durability,
        writing: &mut impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut writer = self.connection();
        writer.expect(durability)?;
        // The lock is taken first: whether another process has it must not be found out in the middle.
        let transaction =
            writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = writing(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }
}

/// Executes a statement, which stays parsed for the next time.
fn run(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(sql)?.execute(values)
}

/// An operation's records go to SQLite's log, which is written anew from 1000 pages of 4 KiB on, and then to the file.
const ROOM: u64 = 8 << 20;

fn enough(path: &Path, free: u64) -> Result<(), Refusal> {
    if free >= ROOM {
        return Ok(());
    }
    let (left, room) = (free >> 10, ROOM >> 20);
    Err(Refusal::new(
        Code::StateUnusable,
        format!(
            "the disk of {} is full: {left} KiB are left, and {room} MiB are kept for recording what is \
             done to devices; nothing was changed",
            path.display()
        ),
        format!("make room there: df -h {}", path.display()),
    ))
}

/// Checks the file before anything relies on it; its version.
fn check(connection: &Connection, path: &Path) -> Result<usize, Refusal> {
    let failed = |error: rusqlite::Error| broken(path, &error);
    let check: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if check != "ok" {
        return Err(unusable(path, &format!("it is damaged: {check}")));
    }
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let Ok(version) = usize::try_from(version) else {
        return Err(unusable(path, &format!("it is damaged: its format is {version}")));
    };
    let ours = schema::MIGRATIONS.len();
    if version > ours {
        return Err(Refusal::new(
            Code::StateUnusable,
            format!(
                "{} was written by a newer version of Handover (its format is {version}, ours is {ours})",
                path.display()
            ),
            "install that version again; no device was touched",
        ));
    }
    Ok(version)
}

/// Checks the file, and brings it to our version.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Refusal> {
    let failed = |error: rusqlite::Error| broken(path, &error);
    // While it opens, another process may carry its log over.
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    let version = check(connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    for (applied, migration) in schema::MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(migration).map_err(failed)?;
        transaction
            .pragma_update(None, "user_version", signed(applied as u64 + 1))
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

/// Reads a column that holds a word or number in its text form.
fn text<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| unreadable(column, &error))
}

/// Reads a column that may be null and else holds a text form.
fn optional_text<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|error: T::Err| unreadable(column, &error))).transpose()
}

/// Reads a column of JSON.
fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, &error))
}

/// Reads a column that may be null and else holds JSON.
fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(column, &error)))
        .transpose()
}

/// Reads a column that holds one word of an enumeration.
fn word<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(text.into()).map_err(|error| unreadable(column, &error))
}

/// A value as JSON, for a column.
fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// A word of an enumeration, for a column.
fn to_word<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    to_json(value).map(|text| text.trim_matches('"').to_owned())
}

fn unreadable(column: &str, error: &dyn Display) -> rusqlite::Error {
    let text = format!("column {column}: {error}");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, text.into())
}

/// A size or count as SQLite has it.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_its_place() {
        let path = Path::new("/var/lib/handover/state.db");
        assert_eq!(enough(path, ROOM), Ok(()));
        let refusal = enough(path, ROOM - 1).unwrap_err();
        assert_eq!(refusal.code, Code::StateUnusable);
        assert!(refusal.message.contains("8191 KiB are left"), "{refusal}");
        assert!(refusal.remedy.contains("/var/lib/handover/state.db"), "{refusal:?}");
    }
}
