//! Room for the journal on a disk that becomes full.
//!
//! SQLite's log gets its blocks before it needs them, beyond its end (fallocate(2)): other files cannot take them. So devices can
//! be returned, and machines stopped and deleted, when nothing is left. File systems that copy on write (Btrfs, ZFS) do not keep
//! such a promise.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt};
use std::path::{Path, PathBuf};

use model::{Code, Refusal};
use rusqlite::Connection;
use rustix::fs::{FallocateFlags, fallocate};

use super::failure::unusable;
use crate::OperationKind;

/// Free space to require: an operation's records go to SQLite's log, up to 1000 pages of 4 KiB, and then to the file.
const MIN_FREE: u64 = 8 << 20;

/// The size of the log for which there are blocks, in bytes.
const RESERVED: u64 = MIN_FREE;

/// What an operation that gives something back needs of it: its records have a few pages.
const RETURNING: u64 = 1 << 20;

/// The units of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;

/// The sizes of the log's header, and of that of a page in it (<https://www.sqlite.org/walformat.html>).
const LOG_HEADER: usize = 32;
const FRAME_HEADER: u64 = 24;

/// The log of a store.
pub fn log(store: &Path) -> PathBuf {
    let mut path = store.to_owned().into_os_string();
    path.push("-wal");
    path.into()
}

fn opened(store: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(log(store))
}

/// Gives the log its blocks. Without them, the store works as long as the disk is not full.
pub fn reserve(store: &Path) {
    let reserve = || {
        fallocate(opened(store)?, FallocateFlags::KEEP_SIZE, 0, RESERVED).map_err(io::Error::from)
    };
    if let Err(error) = reserve() {
        tracing::debug!(store = %store.display(), %error, "no room is reserved for the journal");
    }
}

/// Whether the log is longer than what is reserved for it.
pub fn is_larger(store: &Path) -> bool {
    log(store).metadata().is_ok_and(|log| log.len() > RESERVED)
}

/// Empties the log before the store is closed, and keeps its blocks. A copy of the file alone is then complete, and a file that
/// someone puts in its place is not taken for one that the log belongs to.
pub fn empty(connection: &Connection, store: &Path) {
    let is_written =
        matches!(begin_anew(connection), Ok((0, frames, written)) if frames == written);
    let emptied = opened(store).and_then(|log| match is_written {
        // SQLite takes a log without a valid header for an empty one.
        true => log.write_all_at(&[0; LOG_HEADER], 0),
        false => Ok(()),
    });
    if let Err(error) = emptied {
        tracing::debug!(store = %store.display(), %error, "the log is not emptied");
    }
}

/// Writes what the log has to the file, so that the log begins anew: whether a reader was in the way, the frames in the log, and
/// those that were written.
fn begin_anew(connection: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })
}

/// Refuses an operation if its records may not fit on the disk: unrecorded steps cannot be undone. SQLite would fail only in the
/// middle, because it first fills the rest of its log.
pub fn expect(connection: &Connection, store: &Path, kind: OperationKind) -> Result<(), Refusal> {
    let failed = |error: io::Error| unusable(store, &error.to_string());
    let disk = rustix::fs::statvfs(store).map_err(|errno| failed(errno.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= MIN_FREE || (kind.gives_back() && reserved(connection, store) >= RETURNING) {
        return Ok(());
    }
    Err(full(store, free))
}

/// How many bytes of the log have blocks and are not in use. What the log has is first written to the file, so that the log begins
/// anew; on a full disk that works as long as the file does not grow.
fn reserved(connection: &Connection, store: &Path) -> u64 {
    let has = opened(store).and_then(|log| log.metadata()).map_or(0, |log| log.blocks() * BLOCK);
    let page = connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0));
    let page = page.ok().and_then(|page| u64::try_from(page).ok()).unwrap_or(4096);
    let used = match begin_anew(connection) {
        Ok((0, frames, written)) if frames == written => 0,
        Ok((_, frames, _)) => u64::try_from(frames).unwrap_or(u64::MAX),
        Err(_) => return 0,
    };
    has.saturating_sub(used.saturating_mul(page + FRAME_HEADER))
}

fn full(store: &Path, free: u64) -> Refusal {
    let (left, min_free) = (free >> 10, MIN_FREE >> 20);
    Refusal::new(
        Code::StateUnusable,
        format!(
            "the disk of {} is full: {left} KiB are left, and Handover needs {min_free} MiB to record its changes to devices; \
             nothing was changed",
            store.display()
        ),
        format!("free some space: `df -h {}` shows the file system", store.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_blocks_that_it_does_not_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("state.db");
        let connection = Connection::open(&store).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE a (b); INSERT INTO a VALUES (1)").unwrap();
        assert!(reserved(&connection, &store) < RESERVED);
        reserve(&store);
        if log(&store).metadata().unwrap().blocks() * BLOCK < RESERVED {
            eprintln!("SKIPPED: this file system has no fallocate(2)");
            return;
        }
        assert!(log(&store).metadata().unwrap().len() < RESERVED, "its size stays");
        assert!(reserved(&connection, &store) >= RESERVED);
        connection.execute_batch("INSERT INTO a VALUES (zeroblob(1000000))").unwrap();
        // A reader keeps the log from beginning anew.
        let reader = Connection::open(&store).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM a").unwrap();
        connection.execute_batch("INSERT INTO a VALUES (zeroblob(1000000))").unwrap();
        let left = reserved(&connection, &store);
        assert!((RESERVED / 2..RESERVED).contains(&left), "{left}");
        for kind in OperationKind::ALL {
            assert_eq!(expect(&connection, &store, kind), Ok(()), "this disk is not full");
        }
    }

    #[test]
    fn the_log_keeps_its_blocks_when_the_store_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(dir.path()).unwrap();
        let blocks = || log(&dir.path().join("state.db")).metadata().unwrap().blocks() * BLOCK;
        let open = blocks();
        drop(store);
        assert_eq!(blocks(), open);
        // A copy of the file alone is complete.
        std::fs::copy(dir.path().join("state.db"), dir.path().join("copy.db")).unwrap();
        let copy = Connection::open(dir.path().join("copy.db")).unwrap();
        copy.query_row("SELECT id FROM identity", [], |_| Ok(())).unwrap();
    }

    #[test]
    fn a_full_disk_is_told_in_whole_units() {
        let refusal = full(Path::new("/var/lib/handover/state.db"), MIN_FREE - 1);
        assert_eq!(refusal.code, Code::StateUnusable);
        assert!(
            refusal.message.contains("8191 KiB are left, and Handover needs 8 MiB"),
            "{refusal:?}"
        );
    }
}
