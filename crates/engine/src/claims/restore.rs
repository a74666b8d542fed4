//! Giving devices back: compare and restore.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{
    Address, Binding, Checked, ClaimState, Code, HostError, Observed, Refusal, Step, WhenAbsent,
    restoring,
};

use super::Claims;
use crate::journal::StepError;
use crate::refusals;
use crate::store::{Durability, Health, OpenOperation, Recorded, StoredClaim};
use crate::{HealthState, OperationKind, Outcome};

/// What restoring a claim came to.
#[derive(Debug, Default)]
pub struct Restored {
    /// What was left alone because somebody else changed it since, in words.
    pub notes: Vec<String>,
    /// Functions that could not be given back.
    pub failed: Vec<Failed>,
}

/// A function that could not be given back.
#[derive(Debug)]
pub struct Failed {
    pub address: Address,
    pub reason: String,
    /// How its device is from now on, where it is not well: a person has to look at it.
    pub health: Option<HealthState>,
}

impl Restored {
    /// Adds what another claim came to.
    pub(crate) fn and(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.failed.extend(other.failed);
    }

    /// What an operation that is undone for this cause ended by, in words.
    pub(crate) fn words(&self, cause: &Refusal) -> String {
        match self.refusal() {
            Some(undo) => refusals::with_failed_undo(cause, &undo).message,
            None => cause.message.clone(),
        }
    }

    /// The refusal that says what could not be undone.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if self.failed.is_empty() {
            return None;
        }
        let reasons: Vec<&str> = self.failed.iter().map(|failed| failed.reason.as_str()).collect();
        let reasons = reasons.join("; ");
        Some(if self.failed.iter().any(|failed| failed.health.is_some()) {
            refusals::wedged(&reasons)
        } else {
            Refusal::new(
                Code::UndoFailed,
                reasons,
                "see `dmesg`; mend it, then `handover device clear ADDRESS` tries again",
            )
        })
    }
}

/// One restoring under way.
struct Restoring<'a> {
    claims: &'a Claims,
    operation: &'a OpenOperation,
    claim: &'a StoredClaim,
    outcome: Restored,
    /// Functions on which nothing more is done.
    left: Vec<Address>,
}

impl Claims {
    /// Undoes what is outstanding of a claim: of one operation, or all of it. Functions are restored one by one, so
    /// that one that cannot be does not keep the others.
    pub(crate) fn restore_claim(
        &self,
        operation: &OpenOperation,
        claim: &mut StoredClaim,
        of: Option<i64>,
        patience: Duration,
    ) -> Result<Restored, Refusal> {
        let id = claim.claim.id;
        let recorded = self
            .store
            .read(|from| Recorded::of_claim(from, id, of, &self.journal.boot))
            .map_err(|error| refusals::not_rolled_back_yet(operation, error))?;
        let mut work = Restoring {
            claims: self,
            operation,
            claim,
            outcome: Restored::default(),
            left: Vec::new(),
        };
        work.wait_for_workers(&recorded, patience)?;
        work.look_at(&recorded);
        let steps = restoring(&earliest(recorded.iter().filter_map(Recorded::step)));
        let steps = around_overrides(steps);
        for (turn, step) in steps.iter().enumerate() {
            let rest = steps.get(turn + 1..).unwrap_or_default();
            work.step(step, rest)?;
        }
        let outcome = work.outcome;
        self.record_restored(operation, claim, of, &outcome);
        for note in &outcome.notes {
            tracing::warn!(claim = %id, "{note}");
        }
        Ok(outcome)
    }

    /// Records what restoring came to. The end of its operation is what waits for the disk: until then it is open, and is
    /// gone through again; so it is where this cannot be written.
    fn record_restored(
        &self,
        operation: &OpenOperation,
        claim: &mut StoredClaim,
        of: Option<i64>,
        outcome: &Restored,
    ) {
        let id = claim.claim.id;
        let written = self.journal.write_for(operation, Durability::Process, |tx| {
            if outcome.failed.is_empty() {
                Recorded::mark_undone(tx, id, of)?;
                let rest = Recorded::of_claim(tx, id, None, &self.journal.boot)?;
                // What an earlier boot left stays with a claim that is only reserved.
                let mut rest = rest.iter().filter_map(Recorded::step);
                if rest.all(Step::outlasts_the_boot) {
                    claim.claim.state = ClaimState::Reserved;
                    claim.claim.boot_id = None;
                    claim.uid = None;
                }
            } else {
                claim.claim.state = ClaimState::Wedged;
                claim.claim.boot_id = Some(self.journal.boot.clone());
            }
            for failed in &outcome.failed {
                let Some(health) = failed.health else { continue };
                Health::mark(tx, failed.address, health, &failed.reason)?;
            }
            claim.update(tx)
        });
        match written {
            Ok(()) => self.recorded_as_restored(id),
            Err(error) => {
                tracing::warn!(claim = %id, "what was restored is not recorded yet: {error}");
                operation.keep_open();
                if outcome.failed.is_empty() {
                    self.not_recorded_as_restored(id);
                }
            }
        }
    }
}

impl Claims {
    /// Closes an operation that was undone, together with what else that changes in the store; answers with what was left
    /// alone, or with what could not be undone.
    pub(crate) fn close_undone(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        outcome: Restored,
        together: impl FnMut(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<Vec<String>, Refusal> {
        let failed = outcome.refusal();
        let ended = if failed.is_some() { Outcome::Failed } else { Outcome::Undone };
        self.journal
            .close_operation(operation, ended, Some(&outcome.words(cause)), together)
            .map_err(refusals::rolled_back_not_recorded)?;
        failed.map_or(Ok(outcome.notes), Err)
    }
}

impl Claims {
    /// Tries again to give a wedged claim's devices back.
    pub(crate) fn retry(&self, claim: StoredClaim) -> Result<Vec<String>, Refusal> {
        let id = claim.claim.id;
        let subject = claim.subject();
        let _turn = self.journal.turns.take(subject);
        // It may have been given back while we waited for our turn.
        let claims = self.store.read(StoredClaim::all)?;
        let Some(mut claim) = claims
            .into_iter()
            .find(|claim| claim.claim.id == id && claim.claim.state == ClaimState::Wedged)
        else {
            return Ok(Vec::new());
        };
        let operation = self.journal.open_operation(OperationKind::Restore, subject, |_| Ok(()))?;
        let outcome = self.restore_claim(&operation, &mut claim, None, self.journal.moment())?;
        if let Some(refusal) = outcome.refusal() {
            self.journal.close_operation(
                &operation,
                Outcome::Failed,
                Some(&refusal.message),
                |_| Ok(()),
            )?;
            return Err(refusal);
        }
        self.journal.close_operation(&operation, Outcome::Done, None, |tx| {
            if claim.is_orphan() { StoredClaim::delete(tx, id) } else { Ok(()) }
        })?;
        Ok(outcome.notes)
    }
}

/// Of several changes of the same thing, made by several operations, the earliest: it knows how it was found.
fn earliest<'a>(done: impl Iterator<Item = &'a Step>) -> Vec<Step> {
    let mut kept: Vec<Step> = Vec::new();
    for step in done {
        if !kept.iter().any(|other| step.changes_the_same(other)) {
            kept.push(step.clone());
        }
    }
    kept
}

/// A function can be found with one driver and reserved for another, for its next bind. It comes back to its own driver
/// only while it is not reserved, so the reservation is put back after that.
fn around_overrides(steps: Vec<Step>) -> Vec<Step> {
    let elsewhere = |step: &Step| {
        let Step::SetOverride { address, from, to: Some(reserved) } = step else { return None };
        let own = steps.iter().find_map(|other| match other {
            Step::Return { address: same, driver } if same == address => Some(driver),
            _ => None,
        });
        own.filter(|own| *own != reserved)?;
        let (address, from, to) = (*address, from.clone(), Some(reserved.clone()));
        let clear = Step::SetOverride { address, from, to: None };
        Some((clear, Step::SetOverride { address, from: None, to }))
    };
    let mut kept = Vec::new();
    let mut after: Vec<Step> = Vec::new();
    for step in &steps {
        if let Some((clear, set)) = elsewhere(step) {
            after.push(set);
            kept.push(clear);
            continue;
        }
        kept.push(step.clone());
        if let Step::Return { address, .. } = step {
            kept.extend(after.iter().filter(|set| set.address() == Some(*address)).cloned());
        }
    }
    kept
}

impl Restoring<'_> {
    /// A worker, perhaps of a dead daemon, may still be inside the kernel: nothing is done on its device before it is
    /// out, or patience is over. It may be inside any step, also a restoring one: all of them are waited for alike.
    fn wait_for_workers(
        &mut self,
        recorded: &[Recorded],
        patience: Duration,
    ) -> Result<(), Refusal> {
        let functions: BTreeSet<Address> =
            recorded.iter().filter_map(|recorded| recorded.step()?.address()).collect();
        for address in self.claims.hardware.wait_for_workers(functions, patience)? {
            let reason = format!("an earlier step timed out; the kernel still works on {address}");
            self.fail(address, reason, Some(HealthState::Wedged));
        }
        Ok(())
    }

    /// Whether the functions on vfio still answer. One that is lost to its bus would only hold whoever touches it, and a
    /// driver that gets it back could take the host down: it is kept from both, for a person.
    fn look_at(&mut self, recorded: &[Recorded]) {
        let to_vfio = |step: &&Step| step.facts().binding == Binding::ToVfio;
        let steps = recorded.iter().filter_map(Recorded::step);
        let bound = steps.filter(to_vfio).filter_map(Step::address);
        for address in bound.collect::<BTreeSet<_>>() {
            if self.left.contains(&address) {
                continue;
            }
            let baseline = self.claim.baseline(address);
            match self.claims.hardware.host.check(address, baseline) {
                Ok(Checked::Silent) => {
                    let reason = format!(
                        "{address} does not answer any more: its configuration space reads as ones"
                    );
                    self.fail(address, reason, Some(HealthState::Quarantined));
                }
                Ok(Checked::Slower { now }) => self.outcome.notes.push(format!(
                    "the link of {address} is slower than it was found: {}.{} GT/s x{} now",
                    now.speed / 10,
                    now.speed % 10,
                    now.width
                )),
                // What cannot be looked at, the steps that follow will tell of.
                Ok(Checked::Well) | Err(_) => {}
            }
        }
    }

    /// One restoring step; `rest` are those that follow.
    fn step(&mut self, step: &Step, rest: &[Step]) -> Result<(), Refusal> {
        let Some(address) = step.address() else { return Ok(()) };
        if self.left.contains(&address) && !self.only_marked(address, step) {
            return Ok(());
        }
        let facts = step.facts();
        match self.claims.hardware.host.observe(step) {
            Ok(Observed::After) => Ok(()),
            Ok(Observed::Before) => match self.reserved_by_others(address, step, rest) {
                Some(driver) => {
                    self.leave(
                        address,
                        &format!("another tool set its driver_override to {driver}"),
                    );
                    Ok(())
                }
                None => self.perform(address, step),
            },
            // What drivers set is no other tool's doing.
            Ok(Observed::Other(_)) if facts.set_by_drivers => self.perform(address, step),
            Ok(Observed::Other(found)) if facts.stands_alone => {
                let not_done = step.describe();
                let note = format!("skipped {not_done:?}: modified by another tool since: {found}");
                self.outcome.notes.push(note);
                Ok(())
            }
            Ok(Observed::Other(found)) => {
                if !self.is_given_back(step, rest) {
                    self.leave(address, &format!("modified by another tool since: {found}"));
                }
                Ok(())
            }
            Ok(Observed::Absent) if facts.when_absent == WhenAbsent::Undone => Ok(()),
            Ok(Observed::Absent) => self.look_again(address, step, rest),
            Err(error) => {
                self.step_failed(address, step, error);
                Ok(())
            }
        }
    }

    /// Whether a function that is left to another tool is the claim's only by its mark, which this step takes away. One that
    /// could not be given back keeps it, as its claim stays too.
    fn only_marked(&self, address: Address, step: &Step) -> bool {
        matches!(step, Step::Unmark { .. })
            && !self.outcome.failed.iter().any(|failed| failed.address == address)
    }

    /// A function that is not on its bus: a worker may have died between removing it and finding it again, and giving
    /// it back finds it. What follows then sees that there is no more to do.
    fn look_again(&mut self, address: Address, step: &Step, rest: &[Step]) -> Result<(), Refusal> {
        let back = std::iter::once(step)
            .chain(rest)
            .filter(|later| later.address() == Some(address))
            .find(|later| later.facts().when_absent == WhenAbsent::FoundAgain);
        match back {
            Some(back) => self.perform(address, back),
            None => {
                self.leave(address, "it is not on the bus any more");
                Ok(())
            }
        }
    }

    /// Whether an earlier attempt had already given the function back to its own driver, so that taking it from vfio
    /// is done, and clearing its reservation if it has its earlier one again.
    fn is_given_back(&self, step: &Step, rest: &[Step]) -> bool {
        let reserved_again = matches!(step, Step::SetOverride { to: None, .. })
            && rest.iter().any(|later| {
                later.changes_the_same(step)
                    && self.claims.hardware.host.observe(later) == Ok(Observed::After)
            });
        (reserved_again || step.facts().binding == Binding::Taken)
            && rest.iter().any(|later| {
                later.facts().binding == Binding::ToOwn
                    && later.address() == step.address()
                    && self.claims.hardware.host.observe(later) == Ok(Observed::After)
            })
    }

    /// For which other driver somebody reserved the function while it was ours: its own would not get it.
    fn reserved_by_others(&self, address: Address, step: &Step, rest: &[Step]) -> Option<String> {
        match step.facts().binding {
            Binding::Taken | Binding::ToOwn => {}
            Binding::Unchanged | Binding::ToVfio => return None,
        }
        let own = std::iter::once(step).chain(rest).find_map(|later| match later {
            Step::Return { address: same, driver } if *same == address => Some(driver),
            _ => None,
        })?;
        let found = self.claims.hardware.host.as_found(&[address]).ok()?.into_iter().next()?;
        found.driver_override.filter(|reserved| reserved != own)
    }

    fn perform(&mut self, address: Address, step: &Step) -> Result<(), Refusal> {
        match self.claims.journal.restore(self.operation, self.claim.claim.id, step) {
            Ok(()) => Ok(()),
            Err(StepError::Host(error)) => {
                self.step_failed(address, step, error);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn leave(&mut self, address: Address, why: &str) {
        self.outcome.notes.push(format!("{address} is left alone: {why}"));
        self.left.push(address);
    }

    /// A file that cannot be written keeps nobody from the function that it is about.
    fn step_failed(&mut self, address: Address, step: &Step, error: HostError) {
        match error {
            HostError::Deadline { .. } | HostError::Locked { .. } => self.fail_with(address, error),
            _ if step.outlasts_the_boot() => {
                let reason = error.to_string();
                self.outcome.failed.push(Failed { address, reason, health: None });
            }
            _ => self.fail_with(address, error),
        }
    }

    fn fail_with(&mut self, address: Address, error: HostError) {
        match error {
            HostError::Gone { .. } => self.leave(address, "it is not on the bus any more"),
            HostError::Deadline { .. } | HostError::Locked { .. } => {
                self.fail(address, error.to_string(), Some(HealthState::Wedged));
            }
            _ => self.fail(address, error.to_string(), None),
        }
    }

    fn fail(&mut self, address: Address, reason: String, health: Option<HealthState>) {
        self.left.push(address);
        self.outcome.failed.push(Failed { address, reason, health });
    }
}
