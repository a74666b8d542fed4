//! Unpreparing and releasing: the host gets back what it had.

use std::time::Duration;

use model::boot_list::TAKES_EFFECT;
use model::{Address, Claim, ClaimState, Code, Owner, Refusal};

use super::Claims;
use crate::store::{Durability, OpenOperation, Recorded, StoredClaim};
use crate::{OperationKind, Outcome};

impl Claims {
    /// Returns to the host what a claim took, and keeps the reservation; a reserved claim is left as it is. With the claim
    /// come notes for its owner: what another tool changed meanwhile is left as it is.
    ///
    /// # Errors
    /// `in_use` while a machine has it; `device_wedged` or `undo_failed` where it cannot be returned.
    pub fn unprepare(&self, key: &str) -> Result<(Claim, Vec<String>), Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        self.journal.turns.cancel(id);
        let _turn = self.journal.turn_of(id)?;
        let claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        if self.is_as_found(&claim)? {
            return Ok((claim.claim, Vec::new()));
        }
        self.expect_unused(&claim)?;
        let operation = self.begin(OperationKind::Unprepare, id)?;
        let notes = self.finish_unprepare(&operation, self.journal.moment())?;
        Ok((self.stored_claim(&id.to_string())?.claim, notes))
    }

    /// Releases a claim; `owner`, where it is given, must be the claim's. Returns notes for its owner, as
    /// [`unprepare`](Self::unprepare) does.
    ///
    /// # Errors
    /// As [`unprepare`](Self::unprepare); `forbidden` where it is another owner's.
    pub fn release(&self, key: &str, owner: Option<&Owner>) -> Result<Vec<String>, Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        self.journal.turns.cancel(id);
        let _turn = self.journal.turn_of(id)?;
        let claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        if let Some(other) = owner.filter(|owner| **owner != claim.claim.owner) {
            return Err(Refusal::new(
                Code::Forbidden,
                format!("the claim {id} is {}'s and not {other}'s", claim.claim.owner),
                "`handover claims` shows whose is whose",
            ));
        }
        if self.is_as_found(&claim)? {
            self.store.write(Durability::Power, |tx| StoredClaim::delete(tx, id))?;
            self.journal.notify();
            return Ok(Vec::new());
        }
        self.expect_unused(&claim)?;
        let operation = self.begin(OperationKind::Release, id)?;
        self.finish_release(&operation, self.journal.moment())
    }

    /// Whether nothing is to be given back: it is reserved only, and left nothing that outlasts a boot.
    fn is_as_found(&self, claim: &StoredClaim) -> Result<bool, Refusal> {
        if claim.claim.state != ClaimState::Reserved {
            return Ok(false);
        }
        let id = claim.claim.id;
        let left =
            self.store.read(|from| Recorded::of_claim(from, id, None, &self.journal.boot))?;
        Ok(left.is_empty())
    }

    /// Refuses while a machine has it open: it is not pulled from under anybody.
    fn expect_unused(&self, claim: &StoredClaim) -> Result<(), Refusal> {
        if claim.claim.state != ClaimState::Prepared {
            return Ok(());
        }
        let mut functions: Vec<Address> = claim.claim.taken().collect();
        functions.extend(claim.claim.parts.iter().filter_map(model::Part::pins));
        let holders = self.hardware.holders(&functions)?;
        let mine = claim.claim.parts.iter().filter_map(|part| part.partition.as_ref());
        let mine: Vec<uuid::Uuid> = mine.filter_map(model::Partition::mdev).collect();
        // Of a parent only who has one of our mediated devices counts: others have theirs.
        let used = holders.iter().find(|holder| {
            claim.claim.holds(holder.address)
                || holder.mdev.is_some_and(|uuid| mine.contains(&uuid))
        });
        match used {
            None => Ok(()),
            Some(holder) => Err(Refusal::new(
                Code::InUse,
                format!("{} is used by {} ({})", holder.address, holder.user, holder.by),
                "end that machine first: a device is not pulled from under it",
            )),
        }
    }

    pub(super) fn begin(
        &self,
        kind: OperationKind,
        id: uuid::Uuid,
    ) -> Result<OpenOperation, Refusal> {
        // It is acknowledged by the commit that ends it.
        self.journal.open_operation_as(Durability::Process, kind, id, |_| Ok(()))
    }

    /// Unprepares, or finishes an unprepare that was cut off.
    pub(crate) fn finish_unprepare(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        self.give_back(operation, patience, |_, _| Ok(()))
    }

    /// Releases, or finishes a release that was cut off. What could not be given back stays, as nobody's.
    pub(crate) fn finish_release(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        self.give_back(operation, patience, |tx, id| StoredClaim::release(tx, id))
    }

    /// Undoes a preparation that failed or was cut off.
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

    /// Undoes a claim that could not be prepared or was cut off: nothing of it is left.
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

    fn give_back(
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
