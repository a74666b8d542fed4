//! The store: one SQLite file, one writer.

pub mod backup;
mod claims;
mod devices;
mod failure;
mod health;
mod images;
mod instances;
mod journal;
mod leftovers;
mod lock;
mod read_only;
mod room;
mod schema;
mod vf_counts;
mod volumes;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::Refusal;
use own_files::{Existing, STATE_DIR, claim, expect_ours, make_dir};
use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use claims::StoredClaim;
pub use devices::StoredDevice;
pub use health::Health;
pub use images::StoredImage;
pub use instances::StoredInstance;
pub use journal::{OpenOperation, PerformedStep, Recorded};
pub use read_only::read_only;
pub use vf_counts::VfCount;

use crate::OperationKind;
use crate::lock::lock;
use failure::{Defect, broken, is_transient, unfit, unusable};
use lock::StoreLock;

/// The file in the state directory.
const NAME: &str = "state.db";

/// The mode of the file.
const FILE_MODE: u32 = 0o600;

/// What a commit must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power loss: everything that is acknowledged to a caller.
    Power,
    /// A crash of the process: steps, whose effects a power loss reverts too.
    Process,
}

/// How long SQLite itself waits for another process's lock, each time; our mutex is held meanwhile.
const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// How long to wait before a failed write is retried.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// A log of this size, in bytes, has a reader that keeps it from being truncated.
const LARGE_LOG: u64 = 64 << 20;

/// Size of the cache of prepared statements: enough for all of the store's.
const CACHED_STATEMENTS: usize = 128;

/// The longest time that a write outside of running operations is retried.
const IDLE_PATIENCE: Duration = Duration::from_secs(5);

/// The open store.
pub struct Store {
    connection: Mutex<Writer>,
    path: PathBuf,
    id: Uuid,
    /// How long writes outside of running operations are retried.
    patience: Mutex<Duration>,
    // Last field: dropped after everything else is closed.
    _lock: StoreLock,
}

impl Drop for Store {
    fn drop(&mut self) {
        room::empty(&self.connection().connection, &self.path);
    }
}

struct Writer {
    connection: Connection,
    /// The connection's current durability; `None` if unknown.
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

/// Makes the state directory, or checks the one that exists.
fn make_state_dir(path: &Path) -> Result<(), Refusal> {
    make_dir(path, STATE_DIR, Existing::Tighten).map_err(|error| {
        unfit(path, &error)
            .unwrap_or_else(|| unusable(path, &format!("it cannot be created: {error}")))
    })
}

/// Opens or creates a store that belongs to us. The caller has the store's lock.
fn open_own(path: &Path) -> Result<Connection, Refusal> {
    let failed = |path: &Path, error: &std::io::Error| {
        unfit(path, error).unwrap_or_else(|| unusable(path, &error.to_string()))
    };
    // Command lines and labels are private. SQLite gives its other files the mode of this one, whatever the umask
    // (`robust_open` in os_unix.c).
    claim(path, FILE_MODE).map_err(|error| failed(path, &error))?;
    for log in ["-wal", "-shm", "-journal"] {
        let log = PathBuf::from(format!("{}{log}", path.display()));
        expect_ours(&log).map_err(|error| failed(&log, &error))?;
    }
    // SQLite refuses a link in any component (`SQLITE_OPEN_NOFOLLOW`), and one above may be legitimate, such as /var/run.
    let real = resolved(path).map_err(|error| failed(path, &error))?;
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(real, flags).map_err(|error| broken(path, &error))
}

/// The path with all links resolved, except for the file itself.
fn resolved(path: &Path) -> std::io::Result<PathBuf> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(dir.canonicalize()?.join(path.file_name().unwrap_or_default()))
}

impl Store {
    /// Takes the store's lock, then opens or creates `state.db`.
    ///
    /// # Errors
    /// `state_locked`, `state_unusable`.
    pub fn open(state_dir: &Path) -> Result<Self, Refusal> {
        make_state_dir(state_dir)?;
        let lock = StoreLock::take(state_dir)?;
        let path = state_dir.join(NAME);
        let mut connection = open_own(&path)?;
        prepare(&mut connection, &path)?;
        room::reserve(&path);
        let id = connection
            .query_row("SELECT id FROM identity", [], |row| text(row, "id"))
            .map_err(|error| broken(&path, &error))?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        // Otherwise SQLite replans statements when their values change, which small tables do not need.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(|error| broken(&path, &error))?;
        // The log stays when the store is closed, and so do its blocks: a daemon must be able to start on a full disk.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(|error| broken(&path, &error))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| broken(&path, &error))?;
        let writer = Writer { connection, durability: None };
        let patience = Mutex::new(IDLE_PATIENCE);
        Ok(Self { connection: Mutex::new(writer), path, id, patience, _lock: lock })
    }

    /// The store's identity, which moves with its file.
    pub const fn id(&self) -> Uuid {
        self.id
    }

    fn connection(&self) -> MutexGuard<'_, Writer> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to start an operation if the disk may be full before its end is recorded.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn expect_room(&self, kind: OperationKind) -> Result<(), Refusal> {
        room::expect(&self.connection().connection, &self.path, kind)
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
        *lock(&self.patience) = IDLE_PATIENCE.min(most);
        let set = self.connection().connection.busy_timeout(most.min(BUSY_TIMEOUT));
        set.map_err(|error| broken(&self.path, &error))
    }

    /// Writes in one transaction, outside of a running operation: the caller can simply retry.
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

    /// Writes in one transaction. If the disk is full or another process has locked the file, retries for `patience`;
    /// others can read meanwhile.
    ///
    /// # Errors
    /// `state_unusable`; nothing is written then.
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
            if !is_transient(&error) || left.is_zero() {
                return Err(broken(&self.path, &error));
            }
            std::thread::sleep(RETRY_DELAY.min(left));
        }
    }

    /// Checkpoints the log, and truncates it if it is larger than what is reserved for it, unless a reader still needs it. Warns about
    /// a log that stays large.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn truncate_log(&self) -> Result<(), Refusal> {
        {
            let writer = self.connection();
            // With a reader in the way, it does what it can.
            // Truncating gives back the blocks that are reserved for a full disk, and another program could take them at once.
            let mode = if room::is_larger(&self.path) { "TRUNCATE" } else { "RESTART" };
            let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
            let emptied = writer.connection.query_row(&checkpoint, [], |_| Ok(()));
            if let Err(error) = emptied
                && !is_transient(&error)
            {
                return Err(broken(&self.path, &error));
            }
        }
        // Those that it has are kept.
        room::reserve(&self.path);
        let log = room::log(&self.path);
        let size = std::fs::metadata(&log).map_or(0, |log| log.len());
        if size > LARGE_LOG {
            let path = self.path.display();
            tracing::warn!(
                "{path}-wal has {} MiB: another process does not end its read transaction; `fuser -v {path}` shows that process, stop it",
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
        // Take the write lock first, so that a lock of another process fails here and not in the middle.
        let transaction =
            writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = writing(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }
}

/// Executes a cached prepared statement.
fn run(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(sql)?.execute(values)
}

/// Checks the file, and returns its format: the number of migrations that were applied, 0 for a new file.
fn check(connection: &Connection) -> Result<usize, Defect> {
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(Defect::Damaged(format!("it is damaged: {check}")));
    }
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Ok(format) = usize::try_from(format) else {
        return Err(Defect::Damaged(format!("it is damaged: its format is {format}")));
    };
    let Some(migrations) = schema::MIGRATIONS.get(..format) else {
        return Err(Defect::Newer(format));
    };
    let expected = Connection::open_in_memory()?;
    for migration in migrations {
        expected.execute_batch(migration)?;
    }
    if format > 0 && columns(connection)? != columns(&expected)? {
        return Err(Defect::Damaged(format!(
            "it is damaged, or no state of Handover: its tables are not those of format {format}"
        )));
    }
    Ok(format)
}

/// All columns of all tables.
fn columns(of: &Connection) -> rusqlite::Result<BTreeSet<(String, String)>> {
    let columns = "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite%'";
    of.prepare(columns)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Checks the file and migrates it to the current version.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Refusal> {
    let failed = |error: rusqlite::Error| broken(path, &error);
    // Another process may be checkpointing its log.
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    let version = check(connection).map_err(|defect| defect.of_store(path))?;
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

/// Reads a column that holds a value's text form.
fn text<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| unreadable(column, &error))
}

/// Reads a nullable column that holds a value's text form.
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

/// Reads a nullable column of JSON.
fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(column, &error)))
        .transpose()
}

/// Reads a column that holds a variant of an enum.
fn word<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(text.into()).map_err(|error| unreadable(column, &error))
}

/// A value as JSON, for a column.
fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// A variant of an enum, for a column.
fn to_word<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    to_json(value).map(|text| text.trim_matches('"').to_owned())
}

fn unreadable(column: &str, error: &dyn Display) -> rusqlite::Error {
    let text = format!("column {column}: {error}");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, text.into())
}

/// A size or count as SQLite's signed integer.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
