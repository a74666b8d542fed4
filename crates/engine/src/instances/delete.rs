//! Deleting an instance: the machine ends, its devices go back to the host, its files and name are free.

use std::time::Duration;

use model::{Exit, Refusal};

use super::not_ended;
use crate::core::Core;
use crate::store::{OpenOperation, StoredClaim, StoredInstance};
use crate::{InstanceState, MachineStep};

impl Core {
    pub fn delete(&self, key: &str) -> Result<(), Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.turn(id);
        let mut row = self.stored_instance(&id.to_string())?;
        self.settle(&mut row)?;
        let operation = self.open_operation("delete", id, |_| Ok(()))?;
        self.finish_delete(&operation, Duration::ZERO).map(drop)
    }

    /// Deletes, or finishes a delete that was cut off.
    pub fn finish_delete(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.instance;
        let Some(mut row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
            self.close_operation(operation, "done", None, |_| Ok(()))?;
            return Ok(Vec::new());
        };
        if let Err(error) = self.end_machine(operation, &row) {
            let cause = not_ended(error);
            self.give_up(operation, &mut row, &cause)?;
            return Err(cause);
        }
        let outcome = self.restore_claims(operation, &row, None, patience)?;
        if let Some(refusal) = outcome.refusal() {
            return self.stay(operation, &mut row, refusal);
        }
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let removed =
            self.machine(operation, MachineStep::RemoveFiles, || launcher.remove_files(id));
        if let Err(error) = removed {
            return self.stay(operation, &mut row, error.into());
        }
        let notes = (!outcome.notes.is_empty()).then(|| outcome.notes.join("; "));
        self.close_operation(operation, "done", notes.as_deref(), |tx| {
            StoredClaim::release_instance(tx, id)?;
            StoredInstance::delete(tx, id)
        })?;
        Ok(outcome.notes)
    }

    /// Something could not be given back: the instance stays, stopped, so that it can be deleted again.
    fn stay(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        refusal: Refusal,
    ) -> Result<Vec<String>, Refusal> {
        row.ended(InstanceState::Stopped, Exit { code: row.instance.exit_code });
        row.instance.state_error = Some(refusal.message.clone());
        self.close_operation(operation, "failed", Some(&refusal.message), |tx| row.update(tx))?;
        Err(refusal)
    }
}
