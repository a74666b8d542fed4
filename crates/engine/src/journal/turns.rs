//! Turns: at most one operation at a time works on a subject (an instance, a claim, a device's VF count).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use uuid::Uuid;

use crate::lock::lock;

/// The subjects that operations work on now.
#[derive(Default)]
pub struct Turns {
    busy: Mutex<BTreeSet<Uuid>>,
    /// Busy subjects whose operation was cancelled.
    cancelled: Mutex<BTreeSet<Uuid>>,
    freed: Condvar,
    /// Set at shutdown: cancels all operations.
    stopping: AtomicBool,
}

/// The exclusive right to work on a subject, until dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    subject: Uuid,
}

impl Turns {
    /// Waits until the subject is free, then takes it.
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

    /// Cancels the operation on this subject, if any.
    pub fn cancel(&self, subject: Uuid) {
        if lock(&self.busy).contains(&subject) {
            lock(&self.cancelled).insert(subject);
        }
    }

    /// Cancels all operations, for shutdown.
    pub fn cancel_all(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the operation on this subject was cancelled.
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
