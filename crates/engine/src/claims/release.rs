//! Unpreparing and releasing: the host gets back what it had.

use std::time::{Duration, Instant};

use model::boot_list::TAKES_EFFECT;
use model::{Address, ClaimState, Code, Lock, Owner, Refusal};

use crate::core::Core;
use crate::refusals;
use crate::store::{Durability, OpenOperation, Recorded, StoredClaim};
use crate::{OperationKind, Outcome};

/// How soon to look again whether a worker is out of the kernel.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Core {
    /// Gives the host back what a claim took from it; the claim stays. `reserved` already, it is done. What its owner should
    /// know comes along: what somebody else changed meanwhile is not put back.
    pub fn unprepare(&self, key: &str) -> Result<(StoredClaim, Vec<String>), Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        self.cancel(id);
        let _turn = self.turn_of(id)?;
        let claim = self.stored_claim(&id.to_string())?;
        self.expect_not_an_instances(&claim)?;
        if self.is_as_found(&claim)? {
            return Ok((claim, Vec::new()));
        }
        self.expect_unused(&claim)?;
        let operation = self.begin(OperationKind::Unprepare, id)?;
        let notes = self.finish_unprepare(&operation, self.moment())?;
        Ok((self.stored_claim(&id.to_string())?, notes))
    }

    /// Releases a claim, by its id or its owner's name. `owner`, where it is given, must be the claim's. Gives what its owner
    /// should know.
    pub fn release(&self, key: &str, owner: Option<&Owner>) -> Result<Vec<String>, Refusal> {
        let id = self.stored_claim(key)?.claim.id;
        self.cancel(id);
        let _turn = self.turn_of(id)?;
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
            self.write(Durability::Power, |tx| StoredClaim::delete(tx, id))?;
            self.notify();
            return Ok(Vec::new());
        }
        self.expect_unused(&claim)?;
        let operation = self.begin(OperationKind::Release, id)?;
        self.finish_release(&operation, self.moment())
    }

    /// Whether nothing is to be given back: it is reserved only, and left nothing that outlasts a boot.
    fn is_as_found(&self, claim: &StoredClaim) -> Result<bool, Refusal> {
        if claim.claim.state != ClaimState::Reserved {
            return Ok(false);
        }
        let id = claim.claim.id;
        let left = self.store.read(|from| Recorded::of_claim(from, id, None, &self.boot))?;
        Ok(left.is_empty())
    }

    /// Refuses while a machine has it open: it is not pulled from under anybody.
    fn expect_unused(&self, claim: &StoredClaim) -> Result<(), Refusal> {
        if claim.claim.state != ClaimState::Prepared {
            return Ok(());
        }
        let mut functions: Vec<Address> = claim.claim.taken().collect();
        functions.extend(claim.claim.parts.iter().filter_map(model::Part::pins));
        let holders = self.holders(&functions)?;
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
        self.open_operation_as(Durability::Process, kind, id, |_| Ok(()))
    }

    /// Unprepares, or finishes an unprepare that was cut off.
    pub fn finish_unprepare(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        self.give_back(operation, patience, |_, _| Ok(()))
    }

    /// Releases, or finishes a release that was cut off. What could not be given back stays, as nobody's.
    pub fn finish_release(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        self.give_back(operation, patience, |tx, id| StoredClaim::release(tx, id))
    }

    /// Undoes a preparation that failed or was cut off.
    pub fn undo_prepare(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut claim) = self.store.read(|from| StoredClaim::by_id(from, id))? else {
            self.close_operation(operation, Outcome::Undone, Some(&cause.message), |_| Ok(()))?;
            return Ok(Vec::new());
        };
        let outcome = self.restore_claim(operation, &mut claim, Some(operation.id), patience)?;
        self.close_undone(operation, cause, outcome, |_| Ok(()))
    }

    /// Undoes a claim that could not be prepared or was cut off: nothing of it is left.
    pub fn undo_claim(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut claim) = self.store.read(|from| StoredClaim::by_id(from, id))? else {
            self.close_operation(operation, Outcome::Undone, Some(&cause.message), |_| Ok(()))?;
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
            self.close_operation(operation, Outcome::Done, None, |_| Ok(()))?;
            return Ok(Vec::new());
        };
        let outcome = self.restore_claim(operation, &mut claim, None, patience)?;
        let failed = outcome.refusal();
        let (ended, error) = match &failed {
            Some(refusal) => (Outcome::Failed, Some(refusal.message.clone())),
            None => (Outcome::Done, (!outcome.notes.is_empty()).then(|| outcome.notes.join("; "))),
        };
        self.close_operation(operation, ended, error.as_deref(), |tx| together(tx, id))?;
        let mut notes = outcome.notes;
        notes.extend(claim.claim.is_at_boot().then(|| TAKES_EFFECT.to_owned()));
        failed.map_or(Ok(notes), Err)
    }

    /// Waits until no worker, perhaps of a daemon that died, is inside the kernel at one of these functions, or until patience
    /// is over. Returns those at which one still is.
    pub fn wait_for_workers(
        &self,
        functions: impl IntoIterator<Item = Address>,
        patience: Duration,
    ) -> Result<Vec<Address>, Refusal> {
        let until = Instant::now() + patience;
        let mut waiting = Vec::new();
        for address in functions {
            while self.any_locked([address])? {
                if Instant::now() >= until {
                    waiting.push(address);
                    break;
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(waiting)
    }

    /// Whether a worker is still inside the kernel at one of these functions.
    pub fn any_locked(
        &self,
        functions: impl IntoIterator<Item = Address>,
    ) -> Result<bool, Refusal> {
        for address in functions {
            let locked = self.host.is_locked(&Lock::Function(address));
            if locked.map_err(|error| refusals::unreadable(&error))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
