//! What all parts of the engine share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use model::{Claim, ClaimState, Host, HostLock, Launcher, Refusal};
use rusqlite::Transaction;
use uuid::Uuid;

use crate::refusals;
use crate::store::{Durability, OpenOperation, Store, StoredInstance};
use crate::{Config, JournalEvent, Observer, OperationKind, Outcome, RecoveryReport};

/// How long to wait for the turn of a subject whose operation was left open.
const SOON: Duration = Duration::from_millis(500);

/// How long a write is tried that nothing depends on yet.
const BRIEFLY: Duration = Duration::from_secs(5);

/// The inside of an [`Engine`](crate::Engine).
pub struct Core {
    /// Itself, for threads that may outlive it.
    pub me: Weak<Self>,
    pub config: Config,
    pub host: Arc<dyn Host>,
    pub launchers: Vec<Arc<dyn Launcher>>,
    pub observer: Arc<dyn Observer>,
    pub store: Store,
    pub images: image::Store,
    /// This boot.
    pub boot: String,
    /// Held from the last look at the claims to the commit of a new one, and nowhere else.
    pub choosing: Mutex<()>,
    /// The most that recovery waits for a worker of a dead daemon.
    pub patience: Mutex<Duration>,
    /// The most that an operation under way waits for a journal that cannot be written.
    journal_patience: Mutex<Duration>,
    /// So many parts of a claim are prepared at the same time: each has a worker process of its own.
    pub at_once: Mutex<usize>,
    /// Whether the daemon ends: what is under way is undone.
    stopping: AtomicBool,
    /// What the last look at everything found.
    pub last_report: Mutex<Option<RecoveryReport>>,
    /// Whose operations came to an end that could not be recorded.
    left_open: Mutex<BTreeSet<Uuid>>,
    /// Claims of which the host has everything back, and whose record says otherwise yet.
    restored: Mutex<BTreeSet<Uuid>>,
    busy: Mutex<BTreeSet<Uuid>>,
    /// Those of the busy ones that shall give up.
    cancelled: Mutex<BTreeSet<Uuid>>,
    freed: Condvar,
    changes: Mutex<u64>,
    changed: Condvar,
    // Held until everything else is closed.
    _lock: Box<dyn HostLock>,
}

/// The right to work on an instance or claim, until dropped.
pub struct Turn<'a> {
    core: &'a Core,
    subject: Uuid,
}

impl Core {
    pub fn new(
        config: Config,
        host: Arc<dyn Host>,
        launchers: Vec<Arc<dyn Launcher>>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, Refusal> {
        // Before the store: another that works on this host can have its state elsewhere.
        let lock =
            host.lock_host(&config.state_dir).map_err(|error| refusals::host_not_locked(&error))?;
        let store = Store::open(&config.state_dir)?;
        let boot = host.boot_id().map_err(|error| refusals::unreadable(&error))?;
        let images = image::Store::new(config.state_dir.join("images"), config.image_dirs.clone());
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            journal_patience: Mutex::new(config.journal_timeout),
            config,
            host,
            launchers,
            observer,
            store,
            images,
            boot,
            choosing: Mutex::default(),
            patience: Mutex::new(Duration::from_secs(90)),
            at_once: Mutex::new(16),
            stopping: AtomicBool::new(false),
            last_report: Mutex::default(),
            left_open: Mutex::default(),
            restored: Mutex::default(),
            busy: Mutex::default(),
            cancelled: Mutex::default(),
            freed: Condvar::new(),
            changes: Mutex::default(),
            changed: Condvar::new(),
            _lock: lock,
        }))
    }

    /// Waits until nobody else works on the instance or claim.
    pub fn turn(&self, subject: Uuid) -> Turn<'_> {
        let mut busy = held(&self.busy);
        while !busy.insert(subject) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        held(&self.cancelled).remove(&subject);
        Turn { core: self, subject }
    }

    /// The turn, after what an operation of the subject left unrecorded is recorded.
    pub fn turn_of(&self, subject: Uuid) -> Result<Turn<'_>, Refusal> {
        let turn = self.turn(subject);
        if held(&self.left_open).contains(&subject) {
            self.recover_left_open(Some(subject), &mut RecoveryReport::default())?;
        }
        Ok(turn)
    }

    pub fn is_left_open(&self, subject: Uuid) -> bool {
        held(&self.left_open).contains(&subject)
    }

    pub fn is_left_open_no_more(&self, subject: Uuid) {
        held(&self.left_open).remove(&subject);
    }

    /// Remembers that a claim's devices are back, which its record does not say yet.
    pub fn not_recorded_as_restored(&self, claim: Uuid) {
        held(&self.restored).insert(claim);
    }

    pub fn recorded_as_restored(&self, claim: Uuid) {
        held(&self.restored).remove(&claim);
    }

    /// A claim as it is, where its record is behind.
    pub fn as_it_is(&self, mut claim: Claim) -> Claim {
        if held(&self.restored).contains(&claim.id) {
            claim.state = ClaimState::Reserved;
        }
        claim
    }

    /// The turn of a subject whose operation was left open, where it is free soon: the thread that watched its machine may
    /// have it for a moment.
    pub fn turn_left_open(&self, subject: Uuid) -> Option<Turn<'_>> {
        let until = Instant::now() + SOON;
        while self.is_left_open(subject) && Instant::now() < until {
            if let Some(turn) = self.try_turn(subject) {
                return Some(turn);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.try_turn(subject)
    }

    /// The turn, where nobody has it.
    pub fn try_turn(&self, subject: Uuid) -> Option<Turn<'_>> {
        // Construct lazily: dropping a `Turn` releases the owner's.
        let free = held(&self.busy).insert(subject);
        free.then(|| Turn { core: self, subject })
    }

    /// Asks whoever prepares a claim now to give up.
    pub fn cancel(&self, subject: Uuid) {
        if held(&self.busy).contains(&subject) {
            held(&self.cancelled).insert(subject);
        }
    }

    /// Asks all that is under way to give up, for the daemon ends.
    pub fn give_all_up(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self, subject: Uuid) -> bool {
        self.stopping.load(Ordering::Relaxed) || held(&self.cancelled).contains(&subject)
    }

    /// How long a restoring waits for this daemon's own workers. Those that missed their deadline are not waited for,
    /// but a fork in another thread has a worker's lock open for a moment longer.
    pub fn moment(&self) -> Duration {
        Duration::from_secs(1).min(*held(&self.patience))
    }

    /// Tells those who wait for an instance's state.
    pub fn notify(&self) {
        *held(&self.changes) += 1;
        self.changed.notify_all();
    }

    /// Sleeps until something changed since `seen`, or `until`; gives what to compare with the next time.
    pub fn wait_for_change(&self, seen: u64, until: Instant) -> u64 {
        let mut changes = held(&self.changes);
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

    /// Limits how long a write of the store is tried.
    pub fn limit_journal_patience(&self, most: Duration) -> Result<(), Refusal> {
        *held(&self.journal_patience) = most;
        self.store.limit_busy(most)
    }

    /// Writes to the store while no operation is under way: the caller can simply retry.
    pub fn write<T>(
        &self,
        durability: Durability,
        writing: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Refusal> {
        self.store.write(durability, BRIEFLY.min(*held(&self.journal_patience)), writing)
    }

    /// Writes what belongs to an operation under way. The host is between two states, so a journal that cannot be written
    /// is waited for longer; once an operation has waited in vain it does not wait again.
    pub fn write_for<T>(
        &self,
        operation: &OpenOperation,
        durability: Durability,
        writing: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Refusal> {
        let patience = match operation.has_waited_in_vain() {
            true => Duration::ZERO,
            false => *held(&self.journal_patience),
        };
        let written = self.store.write(durability, patience, writing);
        if written.is_err() {
            operation.wait_no_longer();
        }
        written
    }

    /// Records an operation, with what else must be recorded together with it. The caller has the subject's turn: an
    /// operation that is open while the turn is free was left behind.
    pub fn open_operation(
        &self,
        kind: OperationKind,
        subject: Uuid,
        together: impl FnMut(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<OpenOperation, Refusal> {
        self.open_operation_as(Durability::Power, kind, subject, together)
    }

    /// Records an operation; one that is acknowledged only when it has ended need not outlast a loss of power before.
    pub fn open_operation_as(
        &self,
        durability: Durability,
        kind: OperationKind,
        subject: Uuid,
        mut together: impl FnMut(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<OpenOperation, Refusal> {
        self.store.expect_room()?;
        let operation = self.write(durability, |tx| {
            together(tx)?;
            OpenOperation::open(tx, kind, subject, &self.boot)
        })?;
        self.reached(&JournalEvent::Opened { subject, operation: kind });
        self.notify();
        Ok(operation)
    }

    /// Records an operation's end, with what else becomes true with it. Where that fails, the operation stays open, and
    /// [`recover_left_open`](Self::recover_left_open) ends it later.
    pub fn close_operation(
        &self,
        operation: &OpenOperation,
        outcome: Outcome,
        error: Option<&str>,
        mut together: impl FnMut(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), Refusal> {
        let written = if operation.must_stay_open() {
            Err(refusals::journal_behind())
        } else {
            self.write_for(operation, Durability::Power, |tx| {
                together(tx)?;
                operation.close(tx, outcome, error)
            })
        };
        if let Err(refusal) = written {
            held(&self.left_open).insert(operation.subject);
            return Err(refusals::end_not_recorded(operation, &refusal));
        }
        self.reached(&JournalEvent::Closed {
            subject: operation.subject,
            operation: operation.kind,
            outcome,
        });
        self.notify();
        Ok(())
    }

    pub fn save(&self, row: &StoredInstance) -> Result<(), Refusal> {
        self.write(Durability::Power, |tx| row.update(tx))?;
        self.notify();
        Ok(())
    }

    pub fn stored_instance(&self, key: &str) -> Result<StoredInstance, Refusal> {
        self.store
            .read(|from| StoredInstance::by_key(from, key))?
            .ok_or_else(|| refusals::no_such("instance", key, "handover instance ls"))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        held(&self.core.busy).remove(&self.subject);
        self.core.freed.notify_all();
    }
}

/// A lock, also after a thread died with it: what it guards is only ever whole.
pub fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
