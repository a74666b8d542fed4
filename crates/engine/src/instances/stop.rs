//! Stopping an instance. Its devices stay claimed and bound to vfio.

use model::{Exit, Presence, Refusal};

use super::{Instances, not_ended, unknown, wrong_state};
use crate::store::{OpenOperation, StoredInstance};
use crate::{Instance, InstanceState, MachineStep, OperationKind, Outcome};

impl Instances {
    /// Stops an instance; its devices stay claimed.
    ///
    /// # Errors
    /// `not_found`, `invalid_state`; `undo_failed` if its machine does not end.
    pub fn stop(&self, key: &str) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        let was_restarting = self.cancel_restart(id);
        match row.instance.state {
            InstanceState::Running | InstanceState::Paused => {}
            InstanceState::Shutdown => {
                row.instance.state = InstanceState::Stopped;
                self.save(&row)?;
                return Ok(row.instance);
            }
            InstanceState::Stopped if was_restarting => return Ok(row.instance),
            _ => {
                let start = format!(
                    "nothing to stop; to start it: `handover instance start {}`",
                    row.instance.name
                );
                return Err(wrong_state(&row, "stopped", start));
            }
        }
        let operation = self.journal.open_operation(OperationKind::Stop, id, |_| Ok(()))?;
        self.finish_stop(&operation)?;
        self.find(&id.to_string())
    }

    /// Stops, or finishes an interrupted stop.
    pub(crate) fn finish_stop(&self, operation: &OpenOperation) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
            self.journal.close_operation(operation, Outcome::Done, None, |_| Ok(()))?;
            return Ok(Vec::new());
        };
        let exit = match self.shut_down(operation, &row) {
            Ok(exit) => exit,
            Err(cause) => {
                self.close_unknown(operation, &mut row, &cause)?;
                return Err(cause);
            }
        };
        row.set_ended(InstanceState::Stopped, exit);
        self.journal.close_operation(operation, Outcome::Done, None, |tx| row.update(tx))?;
        self.settle_devices(&mut row)?;
        Ok(Vec::new())
    }

    fn shut_down(&self, operation: &OpenOperation, row: &StoredInstance) -> Result<Exit, Refusal> {
        let id = row.instance.id;
        let launcher = self.launcher(&row.instance.hypervisor)?;
        match launcher.find(id) {
            Presence::Gone => Ok(Exit { code: row.instance.exit_code }),
            Presence::Unknown(why) => Err(unknown(&row.instance.name, &why)),
            Presence::Running(_) => self
                .journal
                .machine(operation, MachineStep::End, || {
                    launcher.shut_down(id, self.config.shutdown_grace)
                })
                .map_err(not_ended),
        }
    }
}
