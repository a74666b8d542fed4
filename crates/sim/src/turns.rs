//! Whose turn it is: steps on one function wait for one another, steps on different ones do not.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use model::Lock;

/// The locks of the steps that are being made.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    busy: Mutex<BTreeSet<Lock>>,
    freed: Condvar,
}

/// A step's turn, until dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    locks: Vec<Lock>,
}

impl Turns {
    /// Waits until nobody works under any of these locks, and takes all of them at once, so that no two wait for each
    /// other.
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
