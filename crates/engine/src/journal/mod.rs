//! The journal: opens and closes operations, lets one at a time work on a subject, and performs steps with a record
//! before and after. It owns the tables `operations` and `steps`. The state machine of an operation is drawn in
//! `docs/design.md`.

mod perform;
mod turns;

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use model::{Code, Host, HostLock, Refusal};
use rusqlite::Transaction;
use uuid::Uuid;

pub use perform::StepError;
pub use turns::{Turn, Turns};

use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, OpenOperation, PerformedStep, Store};
use crate::{Config, JournalEvent, JournalKept, Observer, Operation, OperationKind, Outcome};

/// How long to wait for the turn of a subject whose operation was left open.
const TURN_WAIT: Duration = Duration::from_millis(500);

/// The most requests that wait for one subject. Each holds a thread, of which the daemon has some for all subjects.
const MOST_WAITING: usize = 16;

/// The journal is pruned after this many operations, or after this time.
const PRUNE_AFTER: u32 = 100;
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Ends operations that were left open. The journal itself cannot: other parts know how to finish or roll them back.
pub trait CompletesOperations: Send + Sync {
    /// Ends the open operations of a subject. The caller has the subject's turn.
    ///
    /// # Errors
    /// If the journal still cannot be written.
    fn complete(&self, subject: Uuid) -> Result<(), Refusal>;
}

/// Operations and their steps.
pub struct Journal {
    pub store: Arc<Store>,
    host: Arc<dyn Host>,
    observer: Arc<dyn Observer>,
    /// The id of this boot.
    pub boot: String,
    pub turns: Turns,
    /// Held from the last check that devices, names or users are free to the commit that takes them, and nowhere else.
    pub allocation: Mutex<()>,
    /// How long recovery waits for a worker of a dead daemon.
    pub patience: Mutex<Duration>,
    /// How long a running operation retries writes.
    journal_patience: Mutex<Duration>,
    /// Subjects whose operation ended on the host but is still recorded as open.
    left_open: Mutex<BTreeSet<Uuid>>,
    /// Which ended operations stay.
    kept: JournalKept,
    /// How many operations ended since the last pruning, and when that was.
    unpruned: Mutex<(u32, Option<Instant>)>,
    completer: OnceLock<Weak<dyn CompletesOperations>>,
    changes: Mutex<u64>,
    changed: Condvar,
    // Last field: dropped after everything else is closed.
    _lock: Box<dyn HostLock>,
}

impl Journal {
    pub fn new(
        store: Arc<Store>,
        host: Arc<dyn Host>,
        observer: Arc<dyn Observer>,
        config: &Config,
        host_lock: Box<dyn HostLock>,
    ) -> Result<Self, Refusal> {
        store.limit_patience(config.journal_timeout)?;
        let boot = host.boot_id().map_err(|error| refusals::unreadable(&error))?;
        Ok(Self {
            store,
            host,
            observer,
            boot,
            turns: Turns::default(),
            allocation: Mutex::default(),
            patience: Mutex::new(Duration::from_secs(90)),
            journal_patience: Mutex::new(config.journal_timeout),
            left_open: Mutex::default(),
            kept: config.journal_kept,
            unpruned: Mutex::default(),
            completer: OnceLock::new(),
            changes: Mutex::default(),
            changed: Condvar::new(),
            _lock: host_lock,
        })
    }

    /// Sets what ends operations that were left open. Only the first call has an effect.
    pub fn set_completer(&self, completer: Weak<dyn CompletesOperations>) {
        self.completer.get_or_init(|| completer);
    }

    /// Waits for the subject's turn, then ends an operation on it that was left open.
    pub fn turn_of(&self, subject: Uuid) -> Result<Turn<'_>, Refusal> {
        let turn = self.turns.take_among(subject, MOST_WAITING).ok_or_else(|| {
            Refusal::new(
                Code::TooManyRequests,
                format!("{MOST_WAITING} requests wait for what is being done already"),
                "wait for them, and try again",
            )
        })?;
        if self.is_left_open(subject) {
            let completer = self.completer.get().and_then(Weak::upgrade);
            completer.map_or(Ok(()), |completer| completer.complete(subject))?;
        }
        Ok(turn)
    }

    pub fn is_left_open(&self, subject: Uuid) -> bool {
        lock(&self.left_open).contains(&subject)
    }

    pub fn forget_left_open(&self, subject: Uuid) {
        lock(&self.left_open).remove(&subject);
    }

    /// The turn of a subject whose operation was left open, if it becomes free soon: the thread that watches its
    /// machine may have it briefly.
    pub fn turn_left_open(&self, subject: Uuid) -> Option<Turn<'_>> {
        let until = Instant::now() + TURN_WAIT;
        while self.is_left_open(subject) && Instant::now() < until {
            if let Some(turn) = self.turns.try_take(subject) {
                return Some(turn);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.turns.try_take(subject)
    }

    /// How long a rollback waits for this daemon's own workers. It does not wait for those that timed out, but a fork
    /// in another thread can keep a worker's lock open slightly longer.
    pub fn worker_wait(&self) -> Duration {
        Duration::from_secs(1).min(*lock(&self.patience))
    }

    /// Wakes all threads in [`wait_for_change`](Self::wait_for_change).
    pub fn notify(&self) {
        *lock(&self.changes) += 1;
        self.changed.notify_all();
    }

    /// Sleeps until something changed since `seen`, or until `until`. Returns the value to pass as `seen` the next
    /// time.
    pub fn wait_for_change(&self, seen: u64, until: Instant) -> u64 {
        let mut changes = lock(&self.changes);
        while *changes == seen {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            changes =
                self.changed.wait_timeout(changes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *changes
    }

    pub fn reached(&self, event: &JournalEvent) {
        self.observer.reached(event);
    }

    /// Limits how long writes of a running operation are retried; also an upper limit for all other writes.
    pub fn limit_journal_patience(&self, most: Duration) -> Result<(), Refusal> {
        *lock(&self.journal_patience) = most;
        self.store.limit_patience(most)
    }

    /// Writes a record of a running operation. The host is between two states, so the write is retried for longer than
    /// others; once an operation has used up this time, its later writes are tried only once. Steps that were performed
    /// since the last write are recorded in the same one.
    pub fn write_for<T>(
        &self,
        operation: &OpenOperation,
        durability: Durability,
        mut writing: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Refusal> {
        let patience = match operation.failed_write() {
            Some(_) => Duration::ZERO,
            None => *lock(&self.journal_patience),
        };
        let performed = operation.take_performed();
        let written = self.store.write_patiently(durability, patience, |tx| {
            operation.complete_steps(tx, &performed)?;
            writing(tx)
        });
        if let Err(refusal) = &written {
            operation.write_failed(refusal);
            operation.give_back_performed(performed);
            return written;
        }
        for PerformedStep { action, .. } in performed {
            self.reached(&JournalEvent::Recorded { subject: operation.subject, action });
        }
        written
    }

    /// Records a new operation; `together` writes in the same transaction. The caller has the subject's turn: an
    /// operation that is open while the turn is free was left open.
    pub fn open_operation(
        &self,
        kind: OperationKind,
        subject: Uuid,
        together: impl FnMut(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<OpenOperation, Refusal> {
        self.open_operation_as(Durability::Power, kind, subject, together)
    }

    /// The same with another durability: an operation that is acknowledged only when it ends need not survive a power
    /// loss before that.
    pub fn open_operation_as(
        &self,
        durability: Durability,
        kind: OperationKind,
        subject: Uuid,
        mut together: impl FnMut(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<OpenOperation, Refusal> {
        self.store.expect_room(kind)?;
        let operation = self.store.write(durability, |tx| {
            together(tx)?;
            OpenOperation::open(tx, kind, subject, &self.boot)
        })?;
        self.reached(&JournalEvent::Opened { subject, operation: kind });
        self.notify();
        Ok(operation)
    }

    /// Records an operation's end; `together` writes in the same transaction. If that fails, the operation stays open,
    /// and [`CompletesOperations`] ends it later.
    pub fn close_operation(
        &self,
        operation: &OpenOperation,
        outcome: Outcome,
        error: Option<&str>,
        mut together: impl FnMut(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), Refusal> {
        let written = if operation.must_stay_open() {
            Err(operation.failed_write().unwrap_or_else(refusals::journal_behind))
        } else {
            self.write_for(operation, Durability::Power, |tx| {
                together(tx)?;
                operation.close(tx, outcome, error)
            })
        };
        if let Err(refusal) = written {
            lock(&self.left_open).insert(operation.subject);
            return Err(refusals::end_not_recorded(operation, &refusal));
        }
        lock(&self.unpruned).0 += 1;
        self.reached(&JournalEvent::Closed {
            subject: operation.subject,
            operation: operation.kind,
            outcome,
        });
        self.notify();
        Ok(())
    }

    /// Removes old operations, if enough ended since the last pruning or it was long ago. Each write is short.
    pub fn prune(&self) -> Result<(), Refusal> {
        {
            let mut unpruned = lock(&self.unpruned);
            let recent = unpruned.1.is_some_and(|at| at.elapsed() < PRUNE_EVERY);
            if recent && unpruned.0 < PRUNE_AFTER {
                return Ok(());
            }
            *unpruned = (0, Some(Instant::now()));
        }
        let kept = self.kept;
        while self.store.write(Durability::Process, |tx| Operation::prune(tx, kept))? {}
        self.store.truncate_log()
    }
}
