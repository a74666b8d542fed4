//! Watching machines: one thread per machine, which sleeps until the machine ends.

use std::time::Duration;

use model::{Exit, LaunchError, Launcher, MachineHandle, Presence, Refusal};

use super::Instances;
use super::pause::runs;
use crate::InstanceState;
use crate::lock::lock;
use crate::store::StoredInstance;

/// How long to wait before a failed watch is retried.
const RETRY_DELAY: Duration = Duration::from_secs(2);

impl Instances {
    /// Watches a machine, unless a thread does already; returns whether it is a new one. The thread does not keep the
    /// engine alive while it waits.
    pub(super) fn watch(&self, hypervisor: &str, handle: MachineHandle) -> Result<bool, Refusal> {
        let launcher = self.launcher(hypervisor)?.clone();
        {
            let mut watched = lock(&self.watched);
            if watched.contains(&handle) {
                return Ok(false);
            }
            watched.push(handle.clone());
        }
        let me = self.me.clone();
        let run = handle.clone();
        let watching = std::thread::Builder::new().name("watch".into()).spawn(move || {
            let mut ended = None;
            loop {
                let result = ended.take().unwrap_or_else(|| launcher.wait(&handle));
                let Some(instances) = me.upgrade() else { return };
                match instances.machine_ended(launcher.as_ref(), &handle, &result) {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(machine = %handle.id, "cannot record yet that the machine ended: {error}");
                        ended = Some(result);
                    }
                }
                drop(instances);
                std::thread::sleep(RETRY_DELAY);
            }
        });
        if let Err(error) = watching {
            tracing::error!("cannot watch a machine: {error}");
            self.forget_watched(&run);
        }
        Ok(true)
    }

    fn forget_watched(&self, handle: &MachineHandle) {
        lock(&self.watched).retain(|watched| watched != handle);
    }

    /// Records that a machine ended, unless an operation did. `false`: it runs and must be watched again.
    fn machine_ended(
        &self,
        launcher: &dyn Launcher,
        handle: &MachineHandle,
        result: &Result<Exit, LaunchError>,
    ) -> Result<bool, Refusal> {
        let _turn = self.journal.turns.take(handle.id);
        let row = self.store.read(|from| StoredInstance::by_id(from, handle.id))?;
        let is_current =
            |row: &StoredInstance| row.machine.as_ref() == Some(handle) && runs(&row.instance);
        if let Some(mut row) = row.filter(is_current) {
            match result {
                Ok(exit) => self.set_ended(&mut row, InstanceState::Shutdown, *exit),
                Err(error) => match launcher.find(handle.id) {
                    Presence::Running(_) => return Ok(false),
                    Presence::Gone => {
                        self.set_ended(&mut row, InstanceState::Shutdown, Exit { code: None });
                    }
                    Presence::Unknown(why) => {
                        row.instance.state = InstanceState::Unknown;
                        row.instance.state_error = Some(format!("{error}; {why}"));
                    }
                },
            }
            self.save(&row)?;
            if let Err(refusal) = self.settle_devices(&mut row) {
                tracing::warn!(machine = %handle.id, "devices are not given back yet: {}", refusal.message);
            }
            if row.instance.state == InstanceState::Shutdown {
                let ran = row.instance.started_at.zip(row.instance.stopped_at);
                let ran = ran.and_then(|(from, to)| to.duration_since(from).try_into().ok());
                self.restart_later(&row, ran);
            }
        }
        // Within the turn: who finds the machine next watches it.
        self.forget_watched(handle);
        Ok(true)
    }
}
