//! What the daemon does with machines without a request: it starts them with the host, and again when they end.
//!
//! Each decision is made in the instance's turn, so that a request that waits for the turn, or had it, is not undone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use model::{Autostart, Refusal};
use uuid::Uuid;

use super::{Instances, is_stopped};
use crate::InstanceState;
use crate::lock::lock;
use crate::store::{Durability, StoredInstance};

/// The attempts to start machines again. In memory: a daemon that starts begins to count anew.
#[derive(Debug, Default)]
pub(super) struct Supervision {
    is_on: AtomicBool,
    /// The number of the last plan of all.
    plans: AtomicU64,
    restarts: Mutex<HashMap<Uuid, Restarts>>,
}

/// The attempts to start one machine again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// How many there were in a row.
    pub attempts: u32,
    /// The last one.
    pub last: Option<Timestamp>,
    /// The next one.
    pub next: Option<Timestamp>,
    /// Why there is none.
    pub blocked: Option<Blocked>,
    /// The number of the plan for the next one: a thread that waits for another plan does nothing.
    plan: u64,
}

/// Why a machine is not started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// It was stopped on request while an attempt was due.
    Stopped,
    /// There were as many attempts as there may be.
    TooMany,
}

impl Instances {
    /// Begins to supervise machines: those that ended since the host's start are started again as their policy says; those
    /// that start with the host are started, in their order. Returns when the last of these was started. Call it once, in a
    /// daemon, after recovery.
    pub fn supervise(&self) {
        self.supervision.is_on.store(true, Ordering::Relaxed);
        let rows = match self.store.read(StoredInstance::all) {
            Ok(rows) => rows,
            Err(error) => return tracing::error!("cannot start machines: {error}"),
        };
        let due: BTreeSet<Uuid> =
            rows.iter().filter(|row| self.due(row).is_some()).map(|row| row.instance.id).collect();
        for row in rows.iter().filter(|row| row.instance.state == InstanceState::Shutdown) {
            let id = row.instance.id;
            let boot = match self.store.read(|from| StoredInstance::last_boot(from, id)) {
                Ok(boot) => boot,
                Err(error) => return tracing::error!("cannot start machines: {error}"),
            };
            let is_of_this_boot = boot.is_none_or(|boot| boot == self.journal.boot);
            if is_of_this_boot && !due.contains(&id) {
                self.restart_later(row, None);
            }
        }
        self.autostart(rows);
    }

    /// The attempts to start a machine again, if it was supervised.
    #[must_use]
    pub fn restarts(&self, id: Uuid) -> Option<Restarts> {
        lock(&self.supervision.restarts).get(&id).cloned()
    }

    /// How a machine starts with the host, if it does and was not yet started in this boot.
    fn due(&self, row: &StoredInstance) -> Option<Autostart> {
        let autostart = row.instance.options.life.autostart.as_ref();
        autostart.filter(|one| one.boot_id.as_ref() != Some(&self.journal.boot)).cloned()
    }

    /// Starts the machines that start with the host and were not yet started in this boot.
    fn autostart(&self, rows: Vec<StoredInstance>) {
        let mut all: Vec<(u32, String, Uuid)> = rows
            .into_iter()
            .filter_map(|row| Some((self.due(&row)?.order, row.instance.name, row.instance.id)))
            .collect();
        all.sort();
        for (_, name, id) in all {
            match self.start_with_host(id) {
                Ok(None) => {}
                Ok(Some(autostart)) => {
                    tracing::info!(instance = %name, "started with the host");
                    std::thread::sleep(autostart.delay);
                }
                Err(refusal) => {
                    tracing::error!(instance = %name, "cannot start it with the host: {}", refusal.message);
                }
            }
            // The next daemon starts what is left.
            if self.journal.turns.is_cancelled(id) {
                return;
            }
        }
    }

    /// Starts one machine, if it is still due and does not run. The instance tells a failure.
    fn start_with_host(&self, id: Uuid) -> Result<Option<Autostart>, Refusal> {
        let _turn = self.journal.turn_of(id)?;
        let row = self.stored_instance(&id.to_string())?;
        let Some(autostart) = self.due(&row) else { return Ok(None) };
        let is_stopped = is_stopped(&row);
        let started = if is_stopped { self.start_again(id) } else { Ok(()) };
        // After the attempt: one that the daemon's end interrupts is made again by the next daemon.
        if !self.journal.turns.is_cancelled(id) {
            let mut row = self.stored_instance(&id.to_string())?;
            let life = &mut row.instance.options.life;
            life.autostart = self.autostart_from_next_boot(life.autostart.take());
            self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        }
        started.map(|()| is_stopped.then_some(autostart))
    }

    /// Starts a machine without a request, in its turn. If that fails, the instance tells why, and there is another attempt
    /// as its policy says.
    fn start_again(&self, id: Uuid) -> Result<(), Refusal> {
        let Err(refusal) = self.start_in_turn(id) else { return Ok(()) };
        let mut row = self.stored_instance(&id.to_string())?;
        if is_stopped(&row) {
            row.instance.state_error.get_or_insert_with(|| refusal.message.clone());
            row.instance.exit_code = None;
            if row.instance.options.life.restart.applies_to(None) {
                // Not stopped on request: the next daemon tries again, too.
                row.instance.state = InstanceState::Shutdown;
            }
            self.save(&row)?;
            self.restart_later(&row, None);
        }
        Err(refusal)
    }

    /// Plans another start of a machine that ended without a request, as its policy says. `ran` is how long it ran, if it did
    /// since the last attempt. Call it in the machine's turn.
    pub(super) fn restart_later(&self, row: &StoredInstance, ran: Option<Duration>) {
        let instance = &row.instance;
        let restart = &instance.options.life.restart;
        if !self.supervision.is_on.load(Ordering::Relaxed)
            || !restart.applies_to(instance.exit_code)
        {
            return;
        }
        let plan = self.supervision.plans.fetch_add(1, Ordering::Relaxed) + 1;
        let pause = {
            let mut all = lock(&self.supervision.restarts);
            let restarts = all.entry(instance.id).or_default();
            if ran.is_some_and(|ran| ran >= restart.stable_after) {
                restarts.attempts = 0;
            }
            restarts.next = None;
            if restart.max_attempts > 0 && restarts.attempts >= restart.max_attempts {
                restarts.blocked = Some(Blocked::TooMany);
                tracing::warn!(instance = %instance.name, "not started again: that was tried {} times", restarts.attempts);
                return;
            }
            let pause = restart.pause(restarts.attempts);
            restarts.attempts += 1;
            restarts.blocked = None;
            restarts.next = Some(Timestamp::now().saturating_add(pause).unwrap_or(Timestamp::MAX));
            restarts.plan = plan;
            pause
        };
        tracing::info!(instance = %instance.name, "the machine ended; it is started again in {} s", pause.as_secs());
        let (me, id) = (self.me.clone(), instance.id);
        let waiting = std::thread::Builder::new().name("restart".into()).spawn(move || {
            std::thread::sleep(pause);
            if let Some(instances) = me.upgrade() {
                instances.restart(id, plan);
            }
        });
        if let Err(error) = waiting {
            tracing::error!(instance = %instance.name, "cannot start it again: {error}");
        }
    }

    /// Starts a machine again, unless something else was done with it since this was planned.
    fn restart(&self, id: Uuid, plan: u64) {
        let Ok(_turn) = self.journal.turn_of(id) else { return };
        {
            let mut all = lock(&self.supervision.restarts);
            let due = all.get_mut(&id).filter(|one| one.plan == plan && one.next.is_some());
            let Some(restarts) = due else { return };
            restarts.next = None;
            restarts.last = Some(Timestamp::now());
        }
        if let Err(refusal) = self.start_again(id) {
            tracing::warn!(machine = %id, "cannot start it again: {}", refusal.message);
        }
    }

    /// Forgets the attempts: the machine was started, changed or deleted on request. Call it in the machine's turn.
    pub(super) fn forget_restarts(&self, id: Uuid) {
        lock(&self.supervision.restarts).remove(&id);
    }

    /// Cancels the next attempt, if there is one: the machine was stopped on request. Returns whether there was. Call it in
    /// the machine's turn.
    pub(super) fn cancel_restart(&self, id: Uuid) -> bool {
        let mut all = lock(&self.supervision.restarts);
        let planned = all.get_mut(&id).filter(|restarts| restarts.next.is_some());
        let planned = planned.map(|restarts| {
            restarts.next = None;
            restarts.blocked = Some(Blocked::Stopped);
        });
        planned.is_some()
    }
}
