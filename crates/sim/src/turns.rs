//! Turns: steps on one function wait for each other, steps on different functions do not.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use model::Lock;

/// The locks of the running steps.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    busy: Mutex<BTreeSet<Lock>>,
    freed: Condvar,
}

/// A step's turn, held until dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    locks: Vec<Lock>,
}

impl Turns {
    /// Waits until all these locks are free and takes them at once, so that there is no deadlock.
    pub(crate) fn take(&self, locks: Vec<Lock>) -> Turn<'_> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while locks.iter().any(|lock| busy.contains(lock)) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        busy.extend(locks.iter().cloned());
        Turn { turns: self, locks }
    }

    pub(crate) fn is_busy(&self, lock: &Lock) -> bool {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).contains(lock)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.turns.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for lock in &self.locks {
            busy.remove(lock);
        }
        self.turns.freed.notify_all();
    }
}
