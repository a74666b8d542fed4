//! Lock files, one for each device and one for the host, below the run directory.
//!
//! `flock` belongs to the open file description (flock(2)), which is passed to the worker: the lock is held until all
//! processes have closed it, even if the daemon that took it is dead.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{HostError, Lock};
use own_files::{Existing, OwnFile, RUN_DIR, make_dir};
use rustix::fd::OwnedFd;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The lock files of one run directory.
#[derive(Debug)]
pub struct Locks {
    dir: PathBuf,
    /// The locks under which this process works. Its own steps wait for each other; only a stuck or foreign worker is
    /// an error.
    busy: Mutex<BTreeSet<Lock>>,
    freed: Condvar,
}

/// Exclusive use of a lock among the threads of this process, until dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    locks: &'a Locks,
    lock: Lock,
}

/// The name of a lock: that of its file, without the suffix.
#[must_use]
pub fn lock_name(lock: &Lock) -> String {
    match lock {
        Lock::Function(address) => address.to_string(),
        Lock::Host => "host".into(),
    }
}

impl Locks {
    /// Locks in a directory, which is created when the first lock is taken.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, busy: Mutex::default(), freed: Condvar::new() }
    }

    /// The directory of the files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until no other thread of this process uses this lock; `None` after `patience`.
    pub fn turn(&self, lock: &Lock, patience: Duration) -> Option<Turn<'_>> {
        let until = Instant::now() + patience;
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while busy.contains(lock) {
            let left = until.checked_duration_since(Instant::now())?;
            busy = self.freed.wait_timeout(busy, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        busy.insert(lock.clone());
        Some(Turn { locks: self, lock: lock.clone() })
    }

    /// Takes a lock; `None` if another process has it.
    ///
    /// # Errors
    /// If its file cannot be created or opened.
    pub fn take(&self, lock: &Lock) -> io::Result<Option<OwnedFd>> {
        if let Some(run_dir) = self.dir.parent() {
            make_dir(run_dir, RUN_DIR, Existing::Tighten)?;
        }
        make_dir(&self.dir, 0o700, Existing::Set)?;
        let mut options = OpenOptions::new();
        let file = OwnFile::at(&self.file(lock))
            .mode(0o600)
            .open(options.read(true).write(true).create(true).truncate(false))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file.into())),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes a lock, waiting until it is free; `None` after `patience`.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn wait_for(&self, lock: &Lock, patience: Duration) -> io::Result<Option<OwnedFd>> {
        let until = Instant::now() + patience;
        loop {
            let taken = self.take(lock)?;
            if taken.is_some() || Instant::now() >= until {
                return Ok(taken);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes a lock that a step needs besides the one that came with its job, waiting until it is free.
    ///
    /// # Errors
    /// [`HostError::Locked`] after `patience`; [`HostError::Worker`] if its file cannot be created or opened.
    pub fn acquire(
        &self,
        lock: &Lock,
        patience: Duration,
        step: &str,
    ) -> Result<OwnedFd, HostError> {
        match self.wait_for(lock, patience) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(HostError::Locked { step: step.into(), lock: lock_name(lock) }),
            Err(error) => Err(HostError::Worker {
                step: step.into(),
                reason: format!("cannot take the lock {}: {error}", lock_name(lock)),
            }),
        }
    }

    /// Whether a lock is in use: by a thread of this process, or by a worker of any daemon, dead or alive.
    ///
    /// # Errors
    /// If its file cannot be opened.
    pub fn is_locked(&self, lock: &Lock) -> io::Result<bool> {
        // Kept locked during the check, so that no step of this process finds the lock taken by the check itself.
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.contains(lock) {
            return Ok(true);
        }
        if !self.file(lock).try_exists()? {
            return Ok(false);
        }
        Ok(self.take(lock)?.is_none())
    }

    fn file(&self, lock: &Lock) -> PathBuf {
        self.dir.join(format!("{}.lock", lock_name(lock)))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.locks.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.lock);
        self.locks.freed.notify_all();
    }
}
