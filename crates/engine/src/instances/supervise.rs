//! What the daemon does with machines without a request: it starts them with the host, and again when they end.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use model::{Autostart, Code, Refusal};
use uuid::Uuid;

use super::Instances;
use crate::InstanceState;
use crate::lock::lock;
use crate::store::{Durability, StoredInstance};

/// The attempts to start machines again. In memory: a daemon that starts begins to count anew.
#[derive(Debug, Default)]
pub(super) struct Supervision {
    is_on: AtomicBool,
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
    /// The number of the next one: a thread that waits for another one does nothing.
    turn: u64,
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
    /// Begins to supervise machines: those that ended meanwhile are started again as their policy says, then those that
    /// start with the host, in their order. Returns when the last of these was started. Call it once, in a daemon, after
    /// recovery.
    pub fn supervise(&self) {
        self.supervision.is_on.store(true, Ordering::Relaxed);
        let rows = match self.store.read(StoredInstance::all) {
            Ok(rows) => rows,
            Err(error) => return tracing::error!("cannot start machines: {error}"),
        };
        for row in rows.iter().filter(|row| row.instance.state == InstanceState::Shutdown) {
            self.restart_later(row);
        }
        self.autostart(rows);
    }

    /// The attempts to start a machine again, if it was supervised.
    #[must_use]
    pub fn restarts(&self, id: Uuid) -> Option<Restarts> {
        lock(&self.supervision.restarts).get(&id).cloned()
    }

    /// Starts the machines that start with the host and were not yet started in this boot.
    fn autostart(&self, rows: Vec<StoredInstance>) {
        let due = |row: &StoredInstance| {
            let autostart = row.instance.options.life.autostart.as_ref();
            autostart.filter(|one| one.boot_id.as_ref() != Some(&self.journal.boot)).cloned()
        };
        let mut all: Vec<(Autostart, StoredInstance)> =
            rows.into_iter().filter_map(|row| Some((due(&row)?, row))).collect();
        all.sort_by(|(a, one), (b, other)| {
            (a.order, &one.instance.name).cmp(&(b.order, &other.instance.name))
        });
        for (autostart, row) in all {
            let name = row.instance.name;
            match self.start_with_host(row.instance.id) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(instance = %name, "started with the host");
                    std::thread::sleep(autostart.delay);
                }
                Err(refusal) => {
                    tracing::error!(instance = %name, "cannot start it with the host: {}", refusal.message);
                }
            }
        }
    }

    /// Starts one machine, unless it runs. The instance tells a failure.
    fn start_with_host(&self, id: Uuid) -> Result<bool, Refusal> {
        let is_stopped = {
            let _turn = self.journal.turn_of(id)?;
            let mut row = self.stored_instance(&id.to_string())?;
            if let Some(autostart) = &mut row.instance.options.life.autostart {
                autostart.boot_id = Some(self.journal.boot.clone());
            }
            self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
            matches!(row.instance.state, InstanceState::Stopped | InstanceState::Shutdown)
        };
        if !is_stopped {
            return Ok(false);
        }
        self.start_again(id).map(|()| true)
    }

    /// Starts a machine without a request. The instance tells a failure.
    fn start_again(&self, id: Uuid) -> Result<(), Refusal> {
        let started = self.start_instance(id);
        let Err(refusal) = started else { return Ok(()) };
        let _turn = self.journal.turn_of(id)?;
        let mut row = self.stored_instance(&id.to_string())?;
        let is_stopped =
            matches!(row.instance.state, InstanceState::Stopped | InstanceState::Shutdown);
        if is_stopped && row.instance.state_error.is_none() {
            row.instance.state_error = Some(refusal.message.clone());
            self.save(&row)?;
        }
        Err(refusal)
    }

    /// Plans another start of a machine that ended without a request, as its policy says.
    pub(super) fn restart_later(&self, row: &StoredInstance) {
        let instance = &row.instance;
        let restart = &instance.options.life.restart;
        if !self.supervision.is_on.load(Ordering::Relaxed)
            || !restart.applies_to(instance.exit_code)
        {
            return;
        }
        let ran = instance.started_at.zip(instance.stopped_at);
        let ran = ran.and_then(|(from, to)| Duration::try_from(to.duration_since(from)).ok());
        let (pause, turn) = {
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
            restarts.next = Timestamp::now().checked_add(pause).ok();
            restarts.turn += 1;
            (pause, restarts.turn)
        };
        tracing::info!(instance = %instance.name, "the machine ended; it is started again in {} s", pause.as_secs());
        let (me, id) = (self.me.clone(), instance.id);
        let waiting = std::thread::Builder::new().name("restart".into()).spawn(move || {
            std::thread::sleep(pause);
            if let Some(instances) = me.upgrade() {
                instances.restart(id, turn);
            }
        });
        if let Err(error) = waiting {
            tracing::error!(instance = %instance.name, "cannot start it again: {error}");
        }
    }

    /// Starts a machine again, unless something else was done with it meanwhile.
    fn restart(&self, id: Uuid, turn: u64) {
        let is_due = {
            let mut all = lock(&self.supervision.restarts);
            let due = all.get_mut(&id).filter(|one| one.turn == turn && one.next.is_some());
            due.map(|restarts| {
                restarts.next = None;
                restarts.last = Some(Timestamp::now());
            })
        };
        if is_due.is_none() {
            return;
        }
        match self.start_again(id) {
            Ok(()) => {}
            Err(refusal) if matches!(refusal.code, Code::NotFound | Code::InvalidState) => {}
            Err(refusal) => {
                tracing::warn!(machine = %id, "cannot start it again: {}", refusal.message);
                if let Ok(row) = self.stored_instance(&id.to_string()) {
                    self.restart_later(&row);
                }
            }
        }
    }

    /// Forgets the attempts: the machine was started, changed or deleted on request.
    pub(super) fn forget_restarts(&self, id: Uuid) {
        lock(&self.supervision.restarts).remove(&id);
    }

    /// Cancels the next attempt, if there is one: the machine was stopped on request. Returns whether there was.
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
