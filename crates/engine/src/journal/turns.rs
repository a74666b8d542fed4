//! Turns: at most one operation at a time on each subject (an instance, a claim, a device's VF count).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use uuid::Uuid;

use crate::lock::lock;

/// Which subjects are being worked on.
#[derive(Default)]
pub struct Turns {
    busy: Mutex<BTreeSet<Uuid>>,
    /// Those of the busy ones whose operation was asked to stop.
    cancelled: Mutex<BTreeSet<Uuid>>,
    freed: Condvar,
    /// Whether the daemon ends: all operations are asked to stop.
    stopping: AtomicBool,
}

/// The right to work on a subject, until dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    subject: Uuid,
}

impl Turns {
    /// Waits until the subject is free, and takes it.
    pub fn take(&self, subject: Uuid) -> Turn<'_> {
        let mut busy = lock(&self.busy);
        while !busy.insert(subject) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        lock(&self.cancelled).remove(&subject);
        Turn { turns: self, subject }
    }

    /// Takes the subject if it is free.
    pub fn try_take(&self, subject: Uuid) -> Option<Turn<'_>> {
        // Construct lazily: dropping a `Turn` releases the owner's.
        let free = lock(&self.busy).insert(subject);
        free.then(|| Turn { turns: self, subject })
    }

    /// Asks the operation on this subject to stop, if there is one.
    pub fn cancel(&self, subject: Uuid) {
        if lock(&self.busy).contains(&subject) {
            lock(&self.cancelled).insert(subject);
        }
    }

    /// Asks all operations to stop: the daemon ends.
    pub fn cancel_all(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the operation on this subject was asked to stop.
    pub fn is_cancelled(&self, subject: Uuid) -> bool {
        self.stopping.load(Ordering::Relaxed) || lock(&self.cancelled).contains(&subject)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.turns.busy).remove(&self.subject);
        self.turns.freed.notify_all();
    }
}
