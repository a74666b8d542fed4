//! Turns: at most one operation at a time works on a subject (an instance, a claim, a device's VF count).

use std::collections::{BTreeMap, BTreeSet};
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
    /// How many requests want each subject without waiting for a guest.
    hurried: Mutex<BTreeMap<Uuid, usize>>,
    /// How many wait for each subject.
    waiting: Mutex<BTreeMap<Uuid, usize>>,
    freed: Condvar,
    /// Set at shutdown: cancels all operations.
    stopping: AtomicBool,
}

/// The exclusive right to work on a subject, until dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    subject: Uuid,
}

/// While it lives, no operation on its subject waits for a guest.
pub struct Hurry<'a> {
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

    /// The same, unless too many wait for it: each holds a thread of the daemon.
    pub fn take_among(&self, subject: Uuid, most: usize) -> Option<Turn<'_>> {
        if let Some(turn) = self.try_take(subject) {
            lock(&self.cancelled).remove(&subject);
            return Some(turn);
        }
        {
            let mut waiting = lock(&self.waiting);
            let count = waiting.entry(subject).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        let turn = self.take(subject);
        let mut waiting = lock(&self.waiting);
        if let Some(count) = waiting.get_mut(&subject) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&subject);
            }
        }
        Some(turn)
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

    /// Ends the time that the operation on this subject gives a guest, and those that come before the caller. Drop it with the turn.
    pub fn hurry(&self, subject: Uuid) -> Hurry<'_> {
        *lock(&self.hurried).entry(subject).or_default() += 1;
        Hurry { turns: self, subject }
    }

    /// Whether the operation on this subject is not to wait for a guest any longer.
    pub fn is_hurried(&self, subject: Uuid) -> bool {
        self.stopping.load(Ordering::Relaxed) || lock(&self.hurried).contains_key(&subject)
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

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        let mut hurried = lock(&self.turns.hurried);
        if let Some(count) = hurried.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                hurried.remove(&self.subject);
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.turns.busy).remove(&self.subject);
        self.turns.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn only_some_wait_and_all_of_them_get_their_turn() {
        let turns = Turns::default();
        let subject = Uuid::nil();
        let done = AtomicUsize::new(0);
        let first = turns.take(subject);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let turn = turns.take_among(subject, 3);
                    assert!(turn.is_some());
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            while lock(&turns.waiting).get(&subject) != Some(&3) {
                std::thread::yield_now();
            }
            assert!(turns.take_among(subject, 3).is_none());
            let (one, other) = (turns.hurry(subject), turns.hurry(subject));
            drop(first);
            drop(one);
            // Those that were there before get their turn, and are in a hurry, too.
            while done.load(Ordering::Relaxed) < 3 {
                std::thread::yield_now();
            }
            assert!(turns.is_hurried(subject));
            drop(other);
        });
        assert_eq!(done.load(Ordering::Relaxed), 3);
        assert!(lock(&turns.waiting).is_empty() && !turns.is_hurried(subject));
        assert!(turns.take_among(subject, 3).is_some());
    }
}
