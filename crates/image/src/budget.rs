//! The budget of the disk, which all uploads and imports share.
//!
//! Free space alone is not enough to decide: several writers would each count it as theirs. So each writer is first
//! granted what it will write, a step at a time, and the budget remembers what is granted and not yet on the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::Disk;

use crate::ImageError;
use crate::limits::{Limits, RESERVE};

/// How much is granted to a writer at a time, in bytes.
const STEP: u64 = 8 << 20;

/// The budget of one store of images.
pub struct Budget {
    disk: Arc<dyn Disk>,
    limits: Limits,
    ledger: Mutex<Ledger>,
    /// Held while file systems are written out, which can take long. The ledger is free meanwhile.
    writing_out: Mutex<()>,
}

#[derive(Default)]
struct Ledger {
    /// How many uploads and imports are running.
    running: u32,
    /// Bytes that are granted and may not be written yet.
    granted: u64,
    /// Bytes that were written, and that the file system may still count as free.
    written: u64,
    /// The directories with these bytes.
    dirs: BTreeSet<PathBuf>,
}

impl Budget {
    /// A budget with nothing granted.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { disk, limits, ledger: Mutex::default(), writing_out: Mutex::default() })
    }

    /// Admits one more upload or import, which ends when the admission is dropped.
    ///
    /// # Errors
    /// [`ImageError::TooMany`].
    pub fn admit(self: &Arc<Self>) -> Result<Admission, ImageError> {
        let mut ledger = self.ledger();
        if ledger.running >= self.limits.at_once {
            return Err(ImageError::TooMany { at_once: self.limits.at_once });
        }
        ledger.running += 1;
        Ok(Admission { budget: self.clone() })
    }

    /// An allowance of nothing yet, for files in this directory.
    pub fn allowance(self: &Arc<Self>, dir: &Path) -> Allowance {
        Allowance { budget: self.clone(), dir: dir.to_owned(), left: 0, used: 0 }
    }

    /// Refuses a file that is too large.
    pub(crate) fn expect_size(&self, part: &'static str, length: u64) -> Result<(), ImageError> {
        let most = self.limits.largest_file;
        if length <= most { Ok(()) } else { Err(ImageError::TooLarge { part, most }) }
    }

    /// The largest file, in bytes.
    pub(crate) const fn largest_file(&self) -> u64 {
        self.limits.largest_file
    }

    /// Called between two changes of files, where a simulation can end the process.
    pub(crate) fn between_changes(&self) {
        self.disk.between_changes();
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Grants `wish` bytes, or as many as there are, but at least `need`.
    fn grant(&self, dir: &Path, need: u64, wish: u64) -> Result<u64, ImageError> {
        if let Ok(granted) = self.try_grant(dir, need, wish)? {
            return Ok(granted);
        }
        // What was written counts twice on a file system that counts it at once.
        self.write_out();
        self.try_grant(dir, need, wish)?.map_err(|room| ImageError::NoRoom {
            path: dir.to_owned(),
            need,
            room,
        })
    }

    /// Grants, or returns the room that is left, if it is less than `need`.
    fn try_grant(&self, dir: &Path, need: u64, wish: u64) -> Result<Result<u64, u64>, ImageError> {
        // Read under the lock: between reading and granting, no other writer is granted the same bytes.
        let mut ledger = self.ledger();
        let free = self.disk.free_space(dir).map_err(ImageError::Disk)?;
        let taken = RESERVE.saturating_add(ledger.granted).saturating_add(ledger.written);
        let room = free.saturating_sub(taken);
        if room < need {
            return Ok(Err(room));
        }
        let granted = wish.max(need).min(room);
        ledger.granted = ledger.granted.saturating_add(granted);
        Ok(Ok(granted))
    }

    /// Writes out the file systems, so that they no longer count as free what was written.
    fn write_out(&self) {
        let _one = lock(&self.writing_out);
        let (dirs, written) = {
            let mut ledger = self.ledger();
            (std::mem::take(&mut ledger.dirs), ledger.written)
        };
        for dir in dirs {
            self.disk.write_out(&dir);
        }
        let mut ledger = self.ledger();
        ledger.written = ledger.written.saturating_sub(written);
    }
}

/// One upload or import, until it is dropped.
#[must_use]
pub struct Admission {
    budget: Arc<Budget>,
}

impl Admission {
    /// An allowance of nothing yet, for files in this directory.
    pub fn allowance(&self, dir: &Path) -> Allowance {
        self.budget.allowance(dir)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut ledger = self.budget.ledger();
        ledger.running = ledger.running.saturating_sub(1);
    }
}

/// What one writer may write. Dropping it returns what was not used.
#[must_use]
pub struct Allowance {
    budget: Arc<Budget>,
    dir: PathBuf,
    /// Bytes that are granted and not taken.
    left: u64,
    /// Bytes that were taken and may not be written yet; the ledger counts them as granted.
    used: u64,
}

impl Allowance {
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Reserves this many bytes in advance, so that a writer that cannot finish does not begin.
    ///
    /// # Errors
    /// [`ImageError::NoRoom`], and if the free space cannot be read.
    pub fn reserve(&mut self, count: u64) -> Result<(), ImageError> {
        let missing = count.saturating_sub(self.left);
        if missing > 0 {
            self.left += self.budget.grant(&self.dir, missing, missing)?;
        }
        Ok(())
    }

    /// Takes what will be written next, before [`wrote`](Self::wrote). Can block while the disk is busy.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub(crate) fn take(&mut self, count: u64) -> Result<(), ImageError> {
        if self.left < count {
            let missing = count - self.left;
            self.left += self.budget.grant(&self.dir, missing, missing.max(STEP))?;
        }
        self.left -= count;
        self.used = self.used.saturating_add(count);
        Ok(())
    }

    /// What was taken is written.
    pub(crate) fn wrote(&mut self) {
        self.account(0);
    }

    /// Tells the ledger what is written, and returns `unused` bytes.
    fn account(&mut self, unused: u64) {
        let used = std::mem::take(&mut self.used);
        let mut ledger = self.budget.ledger();
        ledger.granted = ledger.granted.saturating_sub(used.saturating_add(unused));
        if used > 0 {
            ledger.written = ledger.written.saturating_add(used);
            if !ledger.dirs.contains(&self.dir) {
                ledger.dirs.insert(self.dir.clone());
            }
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.account(self.left);
    }
}

/// Locks a mutex, even if it is poisoned: no guarded value here is ever half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::HostError;

    /// A disk of some bytes; what is written is counted at once, or only when it is written out.
    struct Small {
        lags: bool,
        bytes: Mutex<Bytes>,
    }

    #[derive(Default)]
    struct Bytes {
        free: u64,
        cached: u64,
    }

    impl Small {
        fn new(free: u64, lags: bool) -> Arc<Self> {
            Arc::new(Self { lags, bytes: Mutex::new(Bytes { free, cached: 0 }) })
        }

        fn write(&self, count: u64) {
            let mut bytes = lock(&self.bytes);
            bytes.cached += count;
            drop(bytes);
            if !self.lags {
                self.write_out(Path::new(""));
            }
        }

        fn left(&self) -> u64 {
            self.write_out(Path::new(""));
            lock(&self.bytes).free
        }
    }

    impl Disk for Small {
        fn free_space(&self, _: &Path) -> Result<u64, HostError> {
            Ok(lock(&self.bytes).free)
        }

        fn write_out(&self, _: &Path) {
            let mut bytes = lock(&self.bytes);
            bytes.free = bytes.free.checked_sub(bytes.cached).expect("the disk is full");
            bytes.cached = 0;
        }
    }

    /// Four writers in turns, each of which wants all that there is.
    fn four_writers(lags: bool) -> u64 {
        let disk = Small::new(RESERVE + 100 * MIB, lags);
        let budget = Budget::new(disk.clone(), Limits::default());
        let mut writers: Vec<_> = (0..4).map(|_| budget.allowance(Path::new("/d"))).collect();
        while !writers.is_empty() {
            writers.retain_mut(|writer| match writer.take(MIB) {
                Ok(()) => {
                    disk.write(MIB);
                    writer.wrote();
                    true
                }
                Err(error) => {
                    assert!(matches!(error, ImageError::NoRoom { .. }), "{error}");
                    false
                }
            });
        }
        disk.left()
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn four_writers_never_take_the_reserve() {
        for lags in [false, true] {
            let left = four_writers(lags);
            assert!(left >= RESERVE, "lags: {lags}: {left}");
            assert_eq!(left, RESERVE, "lags: {lags}: all the rest can be used");
        }
    }

    #[test]
    fn reserved_space_is_not_granted_until_it_is_returned() {
        let disk = Small::new(RESERVE + 300 * MIB, false);
        let budget = Budget::new(disk.clone(), Limits::default());
        let (mut first, mut second) =
            (budget.allowance(Path::new("/d")), budget.allowance(Path::new("/e")));
        first.reserve(200 * MIB).unwrap();
        let refused = second.reserve(200 * MIB).unwrap_err();
        assert!(
            matches!(refused, ImageError::NoRoom { need, room, .. } if need == 200 * MIB && room == 100 * MIB),
            "{refused}"
        );
        for _ in 0..150 {
            first.take(MIB).unwrap();
            disk.write(MIB);
            first.wrote();
        }
        drop(first);
        second.reserve(150 * MIB).unwrap();
        assert!(second.reserve(151 * MIB).is_err());
    }

    #[test]
    fn a_place_is_free_again_when_its_user_has_gone() {
        let budget = Budget::new(Small::new(0, false), Limits { at_once: 2, ..Limits::default() });
        let (first, _second) = (budget.admit().unwrap(), budget.admit().unwrap());
        assert!(matches!(budget.admit(), Err(ImageError::TooMany { at_once: 2 })));
        drop(first);
        assert!(budget.admit().is_ok());
    }
}
