//! Stopping an instance. Its devices stay claimed and bound to vfio.

use std::time::Duration;

use model::{Exit, Presence, Refusal, ShutDown};

use super::{Instances, not_ended, unknown, wrong_state};
use crate::store::{OpenOperation, StoredInstance};
use crate::{Instance, InstanceState, MachineStep, OperationKind, Outcome};

impl Instances {
    /// Stops an instance in the usual time; its devices stay claimed.
    ///
    /// # Errors
    /// As [`stop_within`](Self::stop_within).
    pub fn stop(&self, key: &str) -> Result<Instance, Refusal> {
        self.stop_within(key, None).map(|(instance, _)| instance)
    }

    /// Stops an instance; its devices stay claimed. A guest that does not shut down within `grace`, by default the
    /// configured time, is ended. Returns notes too.
    ///
    /// # Errors
    /// `not_found`, `invalid_state`; `undo_failed` if its machine does not end.
    pub fn stop_within(
        &self,
        key: &str,
        grace: Option<Duration>,
    ) -> Result<(Instance, Vec<String>), Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let hurry = self.journal.turns.hurry(id);
        let _turn = self.journal.turn_of(id)?;
        drop(hurry);
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        let was_restarting = self.cancel_restart(id);
        match row.instance.state {
            InstanceState::Running | InstanceState::Paused => {}
            InstanceState::Shutdown => {
                row.instance.state = InstanceState::Stopped;
                self.save(&row)?;
                return Ok((row.instance, Vec::new()));
            }
            InstanceState::Stopped if was_restarting => return Ok((row.instance, Vec::new())),
            _ => {
                let start = format!(
                    "nothing to stop; to start it: `handover instance start {}`",
                    row.instance.name
                );
                return Err(wrong_state(&row, "stopped", start));
            }
        }
        let operation = self.journal.open_operation(OperationKind::Stop, id, |_| Ok(()))?;
        let grace = grace.unwrap_or(self.config.shutdown_grace);
        let notes = self.finish_stop(&operation, grace)?;
        Ok((self.find(&id.to_string())?, notes))
    }

    /// Finishes an interrupted stop.
    pub(crate) fn recover_stop(&self, operation: &OpenOperation) -> Result<Vec<String>, Refusal> {
        self.finish_stop(operation, self.config.shutdown_grace)
    }

    fn finish_stop(
        &self,
        operation: &OpenOperation,
        grace: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
            self.journal.close_operation(operation, Outcome::Done, None, |_| Ok(()))?;
            return Ok(Vec::new());
        };
        let ended = match self.shut_down(operation, &row, grace) {
            Ok(ended) => ended,
            Err(cause) => {
                self.close_unknown(operation, &mut row, &cause)?;
                return Err(cause);
            }
        };
        self.set_ended(&mut row, InstanceState::Stopped, ended.exit);
        self.journal.close_operation(operation, Outcome::Done, None, |tx| row.update(tx))?;
        self.settle_devices(&mut row)?;
        if ended.by_guest || grace.is_zero() {
            return Ok(Vec::new());
        }
        let name = &row.instance.name;
        let note = format!(
            "the guest of {name:?} did not shut down within {} s, so its machine was ended: what it had not written to its disks is \
             lost",
            grace.as_secs()
        );
        tracing::warn!("{note}");
        Ok(vec![note])
    }

    fn shut_down(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        grace: Duration,
    ) -> Result<ShutDown, Refusal> {
        let id = row.instance.id;
        let launcher = self.launcher(&row.instance.hypervisor)?;
        match launcher.find(id) {
            Presence::Gone => {
                Ok(ShutDown { exit: Exit { code: row.instance.exit_code }, by_guest: true })
            }
            Presence::Unknown(why) => Err(unknown(&row.instance.name, &why)),
            Presence::Running(_) => self
                .journal
                .machine(operation, MachineStep::End, || launcher.shut_down(id, grace))
                .map_err(not_ended),
        }
    }
}
