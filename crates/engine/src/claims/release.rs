//! Unpreparing and releasing claims: their devices return to the state before the claim.

use std::time::Duration;

use model::boot_list::TAKES_EFFECT;
use model::{Address, Claim, ClaimState, Code, Owner, Refusal};

use super::Claims;
use crate::consent::{Consent, Named};
use crate::refusals;
use crate::store::{Durability, Health, OpenOperation, Recorded, StoredClaim};
use crate::{OperationKind, Outcome};

impl Claims {
    /// Restores a claim's devices and keeps them reserved; a reserved claim is not changed. Returns the claim, and
    /// notes for its owner: what another tool changed meanwhile is left alone.
    ///
    /// # Errors
    /// `in_use` while a device is open; `device_wedged` or `undo_failed` if a device cannot be restored.
    pub fn unprepare(&self, key: &str) -> Result<(Claim, Vec<String>), Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        self.journal.turns.cancel(id);
        let _turn = self.journal.turn_of(id)?;
        let claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        if self.has_nothing_to_restore(&claim)? {
            return Ok((claim.claim, Vec::new()));
        }
        self.expect_unused(&claim)?;
        let operation = self.begin(OperationKind::Unprepare, id)?;
        let notes = self.finish_unprepare(&operation, self.journal.worker_wait())?;
        Ok((self.stored_claim(&id.to_string())?.claim, notes))
    }

    /// Releases a claim. If `owner` is given, it must be the claim's owner. Returns notes for the owner, as
    /// [`unprepare`](Self::unprepare) does.
    ///
    /// # Errors
    /// As [`unprepare`](Self::unprepare); `forbidden` if the claim has another owner.
    pub fn release(&self, key: &str, owner: Option<&Owner>) -> Result<Vec<String>, Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        self.journal.turns.cancel(id);
        let _turn = self.journal.turn_of(id)?;
        let claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        if let Some(other) = owner.filter(|owner| **owner != claim.claim.owner) {
            return Err(Refusal::new(
                Code::Forbidden,
                format!("claim {id} belongs to {}, not to {other}", claim.claim.owner),
                "`handover claims` lists claims with their owners",
            ));
        }
        self.release_in_turn(&claim)
    }

    /// Releases a claim as it was read just now. The caller has its turn.
    pub(super) fn release_in_turn(&self, claim: &StoredClaim) -> Result<Vec<String>, Refusal> {
        let id = claim.claim.id;
        if self.has_nothing_to_restore(claim)? {
            self.store.write(Durability::Power, |tx| StoredClaim::delete(tx, id))?;
            self.journal.notify();
            return Ok(Vec::new());
        }
        self.expect_unused(claim)?;
        let operation = self.begin(OperationKind::Release, id)?;
        self.finish_release(&operation, self.journal.worker_wait())
    }

    /// Restores the devices of a claim that its stopped instance is to lose: the claim is only reserved then. The caller has
    /// the instance's turn. Returns notes, such as what another tool changed and so was left alone.
    pub(crate) fn give_up(&self, claim: &StoredClaim) -> Result<Vec<String>, Refusal> {
        if claim.claim.state == ClaimState::Wedged {
            let head = claim.claim.head().map(|head| head.to_string()).unwrap_or_default();
            let reason = format!("{head} could not be restored earlier");
            let health = self.store.read(Health::all)?;
            return Err(refusals::not_restored_earlier(&claim.claim, &health, &reason));
        }
        if self.has_nothing_to_restore(claim)? {
            return Ok(Vec::new());
        }
        self.expect_unused(claim)?;
        let operation = self.begin(OperationKind::Unprepare, claim.claim.id)?;
        self.finish_unprepare(&operation, self.journal.worker_wait())
    }

    /// Whether there is nothing to restore: the claim is only reserved, and no change of it outlasted an earlier boot.
    fn has_nothing_to_restore(&self, claim: &StoredClaim) -> Result<bool, Refusal> {
        if claim.claim.state != ClaimState::Reserved {
            return Ok(false);
        }
        let id = claim.claim.id;
        let left =
            self.store.read(|from| Recorded::of_claim(from, id, None, &self.journal.boot))?;
        Ok(left.is_empty())
    }

    /// Refuses while a device of a prepared claim is open.
    pub(crate) fn expect_unused(&self, claim: &StoredClaim) -> Result<(), Refusal> {
        if claim.claim.state != ClaimState::Prepared {
            return Ok(());
        }
        let mut functions: Vec<Address> = claim.claim.taken().collect();
        functions.extend(claim.claim.parts.iter().filter_map(model::Part::pins));
        let holders = self.hardware.holders(&functions)?;
        let mine = claim.claim.parts.iter().filter_map(|part| part.partition.as_ref());
        let mine: Vec<uuid::Uuid> = mine.filter_map(model::Partition::mdev).collect();
        // Of a parent's users, only those of this claim's mediated devices count.
        let used = holders.iter().find(|holder| {
            claim.claim.holds(holder.address)
                || holder.mdev.is_some_and(|uuid| mine.contains(&uuid))
        });
        match used {
            None => Ok(()),
            Some(holder) => Err(refusals::used(holder, Consent::NONE, &Named::default())),
        }
    }

    pub(super) fn begin(
        &self,
        kind: OperationKind,
        id: uuid::Uuid,
    ) -> Result<OpenOperation, Refusal> {
        // The commit that ends the operation acknowledges it.
        self.journal.open_operation_as(Durability::Process, kind, id, |_| Ok(()))
    }

    /// Unprepares, or finishes an interrupted unprepare.
    pub(crate) fn finish_unprepare(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        self.restore_and_close(operation, patience, |_, _| Ok(()))
    }

    /// Releases, or finishes an interrupted release. If devices could not be restored, the claim stays without its
    /// owner.
    pub(crate) fn finish_release(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        self.restore_and_close(operation, patience, |tx, id| StoredClaim::release(tx, id))
    }

    /// Rolls back a preparation that failed or was interrupted; the claim stays reserved.
    pub(crate) fn undo_prepare(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut claim) = self.store.read(|from| StoredClaim::by_id(from, id))? else {
            self.journal.close_operation(
                operation,
                Outcome::Undone,
                Some(&cause.message),
                |_| Ok(()),
            )?;
            return Ok(Vec::new());
        };
        let outcome = self.restore_claim(operation, &mut claim, Some(operation.id), patience)?;
        self.close_undone(operation, cause, outcome, |_| Ok(()))
    }

    /// Rolls back and removes a claim that could not be prepared or was interrupted.
    pub(crate) fn undo_claim(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut claim) = self.store.read(|from| StoredClaim::by_id(from, id))? else {
            self.journal.close_operation(
                operation,
                Outcome::Undone,
                Some(&cause.message),
                |_| Ok(()),
            )?;
            return Ok(Vec::new());
        };
        let outcome = self.restore_claim(operation, &mut claim, None, patience)?;
        self.close_undone(operation, cause, outcome, |tx| StoredClaim::release(tx, id))
    }

    /// Restores a claim's devices and closes the operation; `together` writes in the same transaction.
    fn restore_and_close(
        &self,
        operation: &OpenOperation,
        patience: Duration,
        mut together: impl FnMut(&rusqlite::Transaction<'_>, uuid::Uuid) -> rusqlite::Result<()>,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut claim) = self.store.read(|from| StoredClaim::by_id(from, id))? else {
            self.journal.close_operation(operation, Outcome::Done, None, |_| Ok(()))?;
            return Ok(Vec::new());
        };
        let outcome = self.restore_claim(operation, &mut claim, None, patience)?;
        let failed = outcome.refusal();
        let (ended, error) = match &failed {
            Some(refusal) => (Outcome::Failed, Some(refusal.message.clone())),
            None => (Outcome::Done, (!outcome.notes.is_empty()).then(|| outcome.notes.join("; "))),
        };
        self.journal.close_operation(operation, ended, error.as_deref(), |tx| together(tx, id))?;
        let mut notes = outcome.notes;
        notes.extend(claim.claim.is_at_boot().then(|| TAKES_EFFECT.to_owned()));
        failed.map_or(Ok(notes), Err)
    }
}
