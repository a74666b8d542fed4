//! Restoring devices to the state before a claim: compare each recorded step with the host, then undo it.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{
    Address, Binding, Checked, ClaimState, Code, HostError, Observed, Refusal, Step, UndoOrder,
    UndoStage, WhenAbsent, restoring,
};

use super::Claims;
use crate::journal::StepError;
use crate::refusals;
use crate::store::{Durability, Health, OpenOperation, Recorded, StoredClaim};
use crate::{HealthState, OperationKind, Outcome};

/// Result of restoring a claim.
#[derive(Debug, Default)]
pub struct Restored {
    /// Notes on what was left alone because another tool changed it since.
    pub notes: Vec<String>,
    /// Functions that could not be restored.
    pub failed: Vec<Failed>,
}

/// A function that could not be restored.
#[derive(Debug)]
pub struct Failed {
    pub address: Address,
    pub reason: String,
    /// The health state to record, if the function needs manual attention.
    pub health: Option<HealthState>,
}

impl Restored {
    /// Adds the result of another claim.
    pub(crate) fn add(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.failed.extend(other.failed);
    }

    /// The error to record for an operation that was rolled back for this cause.
    pub(crate) fn message(&self, cause: &Refusal) -> String {
        match self.refusal() {
            Some(undo) => refusals::with_failed_undo(cause, &undo).message,
            None => cause.message.clone(),
        }
    }

    /// The refusal that names what could not be restored; `None` if all was.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if self.failed.is_empty() {
            return None;
        }
        let reasons: Vec<&str> = self.failed.iter().map(|failed| failed.reason.as_str()).collect();
        let reasons = reasons.join("; ");
        let unhealthy = self.failed.iter().find(|failed| failed.health.is_some());
        Some(if let Some(failed) = unhealthy {
            match failed.health {
                Some(HealthState::Quarantined) => refusals::silent(failed.address, &reasons),
                _ => refusals::wedged_at(failed.address, &reasons),
            }
        } else {
            let addresses: BTreeSet<Address> =
                self.failed.iter().map(|failed| failed.address).collect();
            let clear: Vec<String> = addresses
                .iter()
                .map(|address| format!("`handover device clear {address}`"))
                .collect();
            Refusal::new(
                Code::UndoFailed,
                reasons,
                format!("see `dmesg` and fix the cause, then retry with {}", clear.join(" and ")),
            )
        })
    }
}

/// The restoring of one claim, in progress.
struct Restoring<'a> {
    claims: &'a Claims,
    operation: &'a OpenOperation,
    claim: &'a StoredClaim,
    outcome: Restored,
    /// Functions that are not changed any further.
    skipped: Vec<Address>,
    /// Whether the claim is prepared and nothing of it was restored yet: what is undone already, another tool undid.
    intact: bool,
}

impl Claims {
    /// Undoes the outstanding steps of a claim, either of the operation `of` or all. Functions are restored
    /// independently: the failure of one does not stop the others.
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
        let began =
            self.store.read(|from| Recorded::has_begun_restoring(from, id, &self.journal.boot));
        let mut work = Restoring {
            claims: self,
            operation,
            claim,
            outcome: Restored::default(),
            skipped: Vec::new(),
            intact: claim.claim.state == ClaimState::Prepared && began.is_ok_and(|began| !began),
        };
        work.leave_to_other_claims(&recorded);
        work.wait_for_workers(&recorded, patience)?;
        work.check_bound(&recorded);
        let steps = restoring(&earliest(recorded.iter().filter_map(Recorded::step)));
        let steps = around_overrides(steps);
        for (index, step) in steps.iter().enumerate() {
            let rest = steps.get(index + 1..).unwrap_or_default();
            work.step(step, rest)?;
        }
        let outcome = work.outcome;
        self.record_restored(operation, claim, of, &outcome);
        for note in &outcome.notes {
            tracing::warn!(claim = %id, "{note}");
        }
        Ok(outcome)
    }

    /// Records the result of restoring; an orphan ends with it. If it cannot be written, the operation is kept open, so
    /// that recovery repeats it. This commit need not survive a power loss: the one that ends the operation does.
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
                if claim.is_orphan() && rest.is_empty() {
                    return StoredClaim::delete(tx, id);
                }
                // Changes that outlast a boot may remain with a claim that is only reserved.
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
                tracing::warn!(claim = %id, "cannot record what was restored yet: {error}");
                operation.keep_open();
                if outcome.failed.is_empty() {
                    self.not_recorded_as_restored(id);
                }
            }
        }
    }
}

impl Claims {
    /// Closes an operation that was rolled back; `together` writes in the same transaction. Returns notes on what was
    /// left alone, or the refusal for what could not be restored.
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
            .close_operation(operation, ended, Some(&outcome.message(cause)), together)
            .map_err(refusals::rolled_back_not_recorded)?;
        failed.map_or(Ok(outcome.notes), Err)
    }
}

impl Claims {
    /// Retries to restore a wedged claim's devices.
    pub(crate) fn retry(&self, claim: StoredClaim) -> Result<Vec<String>, Refusal> {
        let id = claim.claim.id;
        let subject = claim.subject();
        let _turn = self.journal.turn_of(subject)?;
        // It may have been restored while we waited for the turn.
        let claims = self.store.read(StoredClaim::all)?;
        let Some(mut claim) = claims
            .into_iter()
            .find(|claim| claim.claim.id == id && claim.claim.state == ClaimState::Wedged)
        else {
            return Ok(Vec::new());
        };
        let operation = self.journal.open_operation(OperationKind::Restore, subject, |_| Ok(()))?;
        let outcome =
            self.restore_claim(&operation, &mut claim, None, self.journal.worker_wait())?;
        if let Some(refusal) = outcome.refusal() {
            self.journal.close_operation(
                &operation,
                Outcome::Failed,
                Some(&refusal.message),
                |_| Ok(()),
            )?;
            return Err(refusal);
        }
        self.journal.close_operation(&operation, Outcome::Done, None, |_| Ok(()))?;
        Ok(outcome.notes)
    }
}

/// Keeps only the earliest of several changes to the same setting: it knows the original value.
fn earliest<'a>(done: impl Iterator<Item = &'a Step>) -> Vec<Step> {
    let mut kept: Vec<Step> = Vec::new();
    for step in done {
        if !kept.iter().any(|other| step.changes_the_same(other)) {
            kept.push(step.clone());
        }
    }
    kept
}

/// A function can have one driver and a `driver_override` for another, for its next bind. It returns to its native
/// driver only without the override, so the override is restored after that.
fn around_overrides(steps: Vec<Step>) -> Vec<Step> {
    let conflicting = |step: &Step| {
        let Step::SetOverride { address, from, to: Some(other) } = step else { return None };
        let native = steps.iter().find_map(|later| match later {
            Step::Return { address: same, driver } if same == address => Some(driver),
            _ => None,
        });
        native.filter(|native| *native != other)?;
        let (address, from, to) = (*address, from.clone(), Some(other.clone()));
        let clear = Step::SetOverride { address, from, to: None };
        Some((clear, Step::SetOverride { address, from: None, to }))
    };
    let mut kept = Vec::new();
    let mut after: Vec<Step> = Vec::new();
    for step in &steps {
        if let Some((clear, set)) = conflicting(step) {
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

/// Whether a step comes after all functions: units and what draws on a card do not depend on each function's return.
fn is_after_all(step: &Step) -> bool {
    step.facts().undo_order.map(UndoOrder::stage) == Some(UndoStage::AfterAll)
}

/// What another tool did if this restoring step has nothing left to do in an intact claim.
fn undone_by_others(step: &Step) -> Option<String> {
    match step {
        Step::Unbind { driver, .. } => Some(format!("unbound it from {driver}")),
        Step::SetOverride { to: None, .. } => Some("cleared its driver_override".to_owned()),
        Step::SetOverride { to: Some(driver), .. } => {
            Some(format!("set its driver_override back to {driver}"))
        }
        Step::RemoveMdev { uuid, .. } => Some(format!("removed the mediated device {uuid}")),
        Step::SetVgpu { to: 0, .. } => Some("freed the vGPU".to_owned()),
        _ => None,
    }
}

/// The native driver to which this step or a later one returns the same function.
fn native_driver<'a>(step: &'a Step, rest: &'a [Step]) -> Option<&'a String> {
    std::iter::once(step).chain(rest).find_map(|later| match later {
        Step::Return { address, driver } if Some(*address) == step.address() => Some(driver),
        _ => None,
    })
}

impl Restoring<'_> {
    /// Leaves functions alone that have the mark of another claim: an older backup of the store was restored, and the device
    /// has another owner since.
    fn leave_to_other_claims(&mut self, recorded: &[Recorded]) {
        let functions: BTreeSet<Address> =
            recorded.iter().filter_map(|recorded| recorded.step()?.address()).collect();
        let ours = self.claims.marks.mark_of(self.claim.claim.id);
        for address in functions {
            // If the mark cannot be read, the following steps report it.
            let Ok(marks) = self.claims.marks.marks(&[address]) else { continue };
            let other = marks.get(&address);
            let other = other.filter(|mark| (mark.store, mark.claim) != (ours.store, ours.claim));
            if let Some(mark) = other {
                self.leave(address, &format!("it has another claim's mark: {}", mark.describe()));
            }
        }
    }

    /// Waits until no worker, also of a dead daemon, is inside the kernel on these functions. A worker can be in any
    /// step, also a restoring one. Functions that are still locked at the timeout fail as wedged.
    fn wait_for_workers(
        &mut self,
        recorded: &[Recorded],
        patience: Duration,
    ) -> Result<(), Refusal> {
        let functions: BTreeSet<Address> =
            recorded.iter().filter_map(|recorded| recorded.step()?.address()).collect();
        for address in self.claims.hardware.wait_for_workers(functions, patience)? {
            let reason = format!(
                "an earlier step on {address} timed out and is still running in the kernel"
            );
            self.fail(address, reason, Some(HealthState::Wedged));
        }
        Ok(())
    }

    /// Checks that the functions on vfio still answer. Accessing one that has lost its link could hang, and binding a
    /// driver to it could crash the host, so it is quarantined instead.
    fn check_bound(&mut self, recorded: &[Recorded]) {
        let to_vfio = |step: &&Step| step.facts().binding == Binding::ToVfio;
        let steps = recorded.iter().filter_map(Recorded::step);
        let bound = steps.filter(to_vfio).filter_map(Step::address);
        for address in bound.collect::<BTreeSet<_>>() {
            if self.skipped.contains(&address) {
                continue;
            }
            let baseline = self.claim.baseline(address);
            match self.claims.hardware.host.check(address, baseline) {
                Ok(Checked::Silent) => {
                    let reason = format!(
                        "{address} no longer answers: its configuration space reads as all ones"
                    );
                    self.fail(address, reason, Some(HealthState::Quarantined));
                }
                Ok(Checked::Slower { now }) => self.outcome.notes.push(format!(
                    "the link of {address} is slower than before the claim: {}.{} GT/s x{} now",
                    now.speed / 10,
                    now.speed % 10,
                    now.width
                )),
                // If the check itself fails, the following steps report it.
                Ok(Checked::Well) | Err(_) => {}
            }
        }
    }

    /// Whether a step on a function that is left out is done nevertheless: it comes after all functions; or the GPU is unhealthy, and
    /// its set is Fabric Manager's, which needs no answer of it, while other GPUs of the set go back to the host.
    fn is_done_without(&self, address: Address, step: &Step) -> bool {
        let is_set = step.facts().undo_order == Some(UndoOrder::Fabric);
        let is_unhealthy = self.is_unhealthy(address);
        if is_set { is_unhealthy } else { is_after_all(step) && !is_unhealthy }
    }

    /// Performs one restoring step, if needed; `rest` are the steps after it.
    fn step(&mut self, step: &Step, rest: &[Step]) -> Result<(), Refusal> {
        let Some(address) = step.address() else { return Ok(()) };
        let left_out = self.skipped.contains(&address) && !self.only_mark_left(address, step);
        if left_out && !self.is_done_without(address, step) {
            return Ok(());
        }
        let facts = step.facts();
        match self.claims.hardware.host.observe(step) {
            Ok(Observed::After) => {
                if let Some(what) = undone_by_others(step).filter(|_| self.intact) {
                    self.outcome
                        .notes
                        .push(format!("{address}: another tool {what} during the claim"));
                }
                Ok(())
            }
            Ok(Observed::Before) => match self.overridden_by_others(address, step, rest) {
                Some(driver) => {
                    self.leave(
                        address,
                        &format!("another tool set its driver_override to {driver}"),
                    );
                    Ok(())
                }
                None => self.perform(address, step),
            },
            // Drivers set this value, not another tool.
            Ok(Observed::Other(_)) if facts.set_by_drivers => self.perform(address, step),
            Ok(Observed::Other(found)) if facts.stands_alone => {
                let skipped = step.describe();
                let note = format!("skipped {skipped:?}: modified by another tool since: {found}");
                self.outcome.notes.push(note);
                Ok(())
            }
            Ok(Observed::Other(found)) => {
                if !self.is_returned(step, rest) {
                    self.leave(address, &format!("modified by another tool since: {found}"));
                } else if let Some(driver) = native_driver(step, rest).filter(|_| self.intact) {
                    self.outcome.notes.push(format!(
                        "{address}: another tool bound it to {driver} during the claim"
                    ));
                }
                Ok(())
            }
            Ok(Observed::Absent) if facts.when_absent == WhenAbsent::Undone => {
                if let Step::SetFramebuffer { device, .. } = step {
                    self.outcome.notes.push(format!(
                        "{address}: the kernel has removed {device}; without a driver of its own, the card draws the \
                         console again after the next start of the host"
                    ));
                }
                Ok(())
            }
            Ok(Observed::Absent) => self.restore_absent(address, step, rest),
            Err(error) => {
                self.step_failed(address, step, error);
                Ok(())
            }
        }
    }

    /// Whether the function needs manual attention since this restoring: a worker can still be inside the kernel on it.
    fn is_unhealthy(&self, address: Address) -> bool {
        let mut failed = self.outcome.failed.iter();
        failed.any(|failed| failed.address == address && failed.health.is_some())
    }

    /// Whether this step removes the mark from a function that is left to another tool. A function that could not be
    /// restored keeps its mark, as its claim stays too.
    fn only_mark_left(&self, address: Address, step: &Step) -> bool {
        matches!(step, Step::Unmark { .. })
            && !self.outcome.failed.iter().any(|failed| failed.address == address)
    }

    /// Restores a function that is not on its bus. A worker may have died between removing it and rescanning the bus;
    /// the step that rescans finds it again, and the following steps then see that nothing is left to do.
    fn restore_absent(
        &mut self,
        address: Address,
        step: &Step,
        rest: &[Step],
    ) -> Result<(), Refusal> {
        let back = std::iter::once(step)
            .chain(rest)
            .filter(|later| later.address() == Some(address))
            .find(|later| later.facts().when_absent == WhenAbsent::FoundAgain);
        match back {
            Some(back) => self.perform(address, back),
            None => {
                self.leave(address, "it is not on the bus");
                Ok(())
            }
        }
    }

    /// Whether an earlier attempt already returned the function to its native driver. Then unbinding it from vfio is
    /// done, and so is clearing its `driver_override` if the earlier override is restored.
    fn is_returned(&self, step: &Step, rest: &[Step]) -> bool {
        let override_restored = matches!(step, Step::SetOverride { to: None, .. })
            && rest.iter().any(|later| {
                later.changes_the_same(step)
                    && self.claims.hardware.host.observe(later) == Ok(Observed::After)
            });
        (override_restored || step.facts().binding == Binding::Taken)
            && rest.iter().any(|later| {
                later.facts().binding == Binding::ToOwn
                    && later.address() == step.address()
                    && self.claims.hardware.host.observe(later) == Ok(Observed::After)
            })
    }

    /// The `driver_override` that another tool set during the claim: with it, the native driver cannot bind.
    fn overridden_by_others(&self, address: Address, step: &Step, rest: &[Step]) -> Option<String> {
        match step.facts().binding {
            Binding::Taken | Binding::ToOwn => {}
            Binding::Unchanged | Binding::ToVfio => return None,
        }
        let native = native_driver(step, rest)?;
        let found = self.claims.hardware.host.as_found(&[address]).ok()?.into_iter().next()?;
        found.driver_override.filter(|driver| driver != native)
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
        self.skipped.push(address);
    }

    /// If the step writes a file, its failure does not stop the other steps on the function.
    fn step_failed(&mut self, address: Address, step: &Step, error: HostError) {
        match error {
            HostError::Deadline { .. } | HostError::Locked { .. } => self.fail_with(address, error),
            _ if step.facts().undo_order.is_some_and(UndoOrder::is_optional) => {
                let step = step.describe();
                self.outcome.notes.push(format!("{address}: cannot {step}: {error}"));
            }
            _ if step.outlasts_the_boot() => {
                let reason = error.to_string();
                self.outcome.failed.push(Failed { address, reason, health: None });
            }
            _ => self.fail_with(address, error),
        }
    }

    fn fail_with(&mut self, address: Address, error: HostError) {
        match error {
            HostError::Gone { .. } => self.leave(address, "it is not on the bus"),
            HostError::Deadline { .. } | HostError::Locked { .. } => {
                self.fail(address, error.to_string(), Some(HealthState::Wedged));
            }
            _ => self.fail(address, error.to_string(), None),
        }
    }

    fn fail(&mut self, address: Address, reason: String, health: Option<HealthState>) {
        self.skipped.push(address);
        self.outcome.failed.push(Failed { address, reason, health });
    }
}
