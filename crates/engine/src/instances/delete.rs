//! Deleting an instance: its machine is stopped, its devices are restored, its files are removed and its name is free.

use std::time::Duration;

use model::{Code, Exit, Refusal};

use super::{Instances, not_ended};
use crate::journal::StepError;
use crate::store::{OpenOperation, StoredClaim, StoredInstance};
use crate::{InstanceState, MachineStep, OperationKind, Outcome, Volume};

impl Instances {
    /// Deletes an instance and restores its devices.
    ///
    /// # Errors
    /// `not_found`, `invalid_state`; `device_wedged`, `undo_failed`: then the instance stays and can be deleted again.
    pub fn delete(&self, key: &str) -> Result<(), Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let hurry = self.journal.turns.hurry(id);
        let _turn = self.journal.turn_of(id)?;
        drop(hurry);
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        self.forget_restarts(id);
        let operation = self.journal.open_operation(OperationKind::Delete, id, |_| Ok(()))?;
        self.finish_delete(&operation, self.journal.worker_wait()).map(drop)
    }

    /// Deletes, or finishes an interrupted delete.
    pub(crate) fn finish_delete(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
            self.journal.close_operation(operation, Outcome::Done, None, |_| Ok(()))?;
            return Ok(Vec::new());
        };
        if let Err(error) = self.end_machine(operation, &row) {
            let cause = not_ended(error);
            self.close_unknown(operation, &mut row, &cause)?;
            return Err(cause);
        }
        self.give_back_usb(&mut row)?;
        let outcome = self.restore_claims(operation, &row, None, patience)?;
        if let Some(refusal) = outcome.refusal() {
            self.keep_stopped(operation, &mut row, &refusal)?;
            return Err(refusal);
        }
        if let Err(refusal) = self.remove_files(operation, &row) {
            self.keep_stopped(operation, &mut row, &refusal)?;
            return Err(refusal);
        }
        let notes = (!outcome.notes.is_empty()).then(|| outcome.notes.join("; "));
        let made = self.store.read(|from| Volume::made_with(from, id))?;
        self.volumes.condemn(&made);
        self.journal.close_operation(operation, Outcome::Done, notes.as_deref(), |tx| {
            StoredClaim::release_instance(tx, id)?;
            made.iter().try_for_each(|volume| Volume::delete(tx, volume.id))?;
            StoredInstance::delete(tx, id)
        })?;
        self.volumes.discard(&made);
        Ok(outcome.notes)
    }

    /// Removes the machine's files, if any.
    pub(super) fn remove_files(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
    ) -> Result<(), Refusal> {
        let id = row.instance.id;
        let launcher = self.launcher(&row.instance.hypervisor)?;
        self.journal
            .machine(operation, MachineStep::RemoveFiles, || launcher.remove_files(id))
            .map_err(not_removed)
    }

    /// Records that a device could not be restored or a file not removed: the instance stays stopped, so that it can be
    /// deleted again.
    pub(super) fn keep_stopped(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        refusal: &Refusal,
    ) -> Result<(), Refusal> {
        row.set_ended(InstanceState::Stopped, Exit { code: row.instance.exit_code });
        row.instance.state_error = Some(refusal.message.clone());
        self.journal.close_operation(operation, Outcome::Failed, Some(&refusal.message), |tx| {
            row.update(tx)
        })
    }
}

/// The refusal for a machine that is gone but whose files are not.
fn not_removed(error: StepError) -> Refusal {
    match error {
        StepError::Launch(error) => Refusal::new(
            Code::UndoFailed,
            format!("cannot remove the machine's files: {error}"),
            "fix the cause, then delete the instance",
        ),
        other => other.into(),
    }
}
