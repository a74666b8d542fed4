//! Recovery: finishes or rolls back operations that the journal has as open, by comparing it with the host.

mod compare;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Address, ClaimState, Code, Refusal};
use uuid::Uuid;

use crate::claims::Claims;
use crate::devices::Devices;
use crate::hardware::Hardware;
use crate::images::Images;
use crate::instances::Instances;
use crate::journal::{CompletesOperations, Journal};
use crate::lock::lock;
use crate::refusals::interrupted;
use crate::store::{Durability, OpenOperation, Recorded, Store, StoredClaim, StoredInstance};
use crate::vf_counts::VfCounts;
use crate::{OperationKind, Outcome, RecoveryReport};

/// Makes the host, the machines and the records agree again.
pub struct Recovery {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    vf_counts: Arc<VfCounts>,
    claims: Arc<Claims>,
    devices: Arc<Devices>,
    images: Arc<Images>,
    instances: Arc<Instances>,
    /// The last report of [`recover`](Self::recover) or [`reconcile`](Self::reconcile).
    last_report: Mutex<Option<RecoveryReport>>,
}

impl CompletesOperations for Recovery {
    fn complete(&self, subject: Uuid) -> Result<(), Refusal> {
        self.recover_left_open(Some(subject), &mut RecoveryReport::default())
    }
}

impl Recovery {
    pub fn new(
        hardware: Arc<Hardware>,
        vf_counts: Arc<VfCounts>,
        claims: Arc<Claims>,
        devices: Arc<Devices>,
        images: Arc<Images>,
        instances: Arc<Instances>,
        journal: Arc<Journal>,
    ) -> Self {
        let (store, last_report) = (journal.store.clone(), Mutex::default());
        Self {
            store,
            journal,
            hardware,
            vf_counts,
            claims,
            devices,
            images,
            instances,
            last_report,
        }
    }

    /// The last report of [`recover`](Self::recover) or [`reconcile`](Self::reconcile); `None` before the first.
    pub fn last_report(&self) -> Option<RecoveryReport> {
        lock(&self.last_report).clone()
    }

    /// Ends the operations that were left open while the journal could not be written, then quarantines functions of
    /// prepared claims that no longer answer. Returns these functions, each with the reason.
    pub fn check_claims(&self) -> Result<Vec<(Address, String)>, Refusal> {
        let mut report = RecoveryReport::default();
        self.recover_left_open(None, &mut report)?;
        report.finished.iter().chain(&report.undone).chain(&report.notes).for_each(|note| {
            tracing::warn!("completed after a failed write to the journal: {note}");
        });
        let lost = self.devices.quarantine_silent()?;
        self.prune();
        Ok(lost)
    }

    /// Recovers after a start. It can be interrupted anywhere: the next recovery continues.
    pub fn recover(&self) -> Result<RecoveryReport, Refusal> {
        let mut report = RecoveryReport::default();
        self.store.write(Durability::Power, |tx| {
            Recorded::void_other_boots(tx, &self.journal.boot)?;
            StoredClaim::forget_other_boots(tx, &self.journal.boot)
        })?;
        for operation in self.store.read(OpenOperation::all)? {
            let _turn = self.journal.turns.take(operation.subject);
            self.recover_operation(&operation, *lock(&self.journal.patience), &mut report)?;
        }
        // Failed changes are rolled back before the configuration is restored.
        report.notes.extend(self.vf_counts.retry(None)?);
        self.vf_counts.restore_all(&mut report)?;
        self.compare(&mut report)?;
        report.notes.extend(self.images.recover()?);
        self.prune();
        *lock(&self.last_report) = Some(report.clone());
        Ok(report)
    }

    fn prune(&self) {
        if let Err(refusal) = self.journal.prune() {
            tracing::warn!("cannot prune the journal: {}", refusal.message);
        }
    }

    /// Compares the records with the host while the daemon runs. Skips subjects that an operation works on.
    pub fn reconcile(&self) -> Result<RecoveryReport, Refusal> {
        let mut report = RecoveryReport::default();
        self.recover_left_open(None, &mut report)?;
        self.compare(&mut report)?;
        *lock(&self.last_report) = Some(report.clone());
        Ok(report)
    }

    /// Finishes or rolls back operations that were left open because the journal could not be written: of all subjects
    /// whose turn is free, or of the subject `of`, whose turn the caller has.
    pub fn recover_left_open(
        &self,
        of: Option<Uuid>,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        for operation in self.store.read(OpenOperation::all)? {
            let subject = operation.subject;
            if of.is_some_and(|of| of != subject) {
                continue;
            }
            let turn = match of {
                Some(_) => None,
                None => match self.journal.turn_left_open(subject) {
                    Some(turn) => Some(turn),
                    None => continue,
                },
            };
            // It may have ended before we had the turn.
            if self.store.read(|from| operation.is_open(from))? {
                self.recover_operation(&operation, self.journal.worker_wait(), report)?;
            }
            self.journal.forget_left_open(subject);
            drop(turn);
        }
        Ok(())
    }

    fn compare(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        self.retry_wedged(report)?;
        report.notes.extend(self.vf_counts.retry(None)?);
        for row in self.store.read(StoredInstance::all)? {
            let Some(_turn) = self.journal.turns.try_take(row.instance.id) else { continue };
            // It may have changed before we had the turn.
            let id = row.instance.id;
            let Some(row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
                continue;
            };
            self.instances.find_machine(row, report)?;
        }
        self.compare_claims(report)
    }

    fn recover_operation(
        &self,
        operation: &OpenOperation,
        patience: Duration,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        let id = operation.subject;
        let name = self.name_of(id)?;
        let (result, list) = match operation.kind {
            OperationKind::Create => {
                (self.instances.recover_create(operation, patience), &mut report.undone)
            }
            OperationKind::Start => {
                (self.instances.recover_start(operation, patience), &mut report.undone)
            }
            OperationKind::Stop => (self.instances.finish_stop(operation), &mut report.finished),
            OperationKind::Delete => {
                (self.instances.finish_delete(operation, patience), &mut report.finished)
            }
            OperationKind::Claim => (
                self.claims.undo_claim(operation, &interrupted(OperationKind::Claim), patience),
                &mut report.undone,
            ),
            OperationKind::Prepare => (
                self.claims.undo_prepare(operation, &interrupted(OperationKind::Prepare), patience),
                &mut report.undone,
            ),
            OperationKind::Unprepare => {
                (self.claims.finish_unprepare(operation, patience), &mut report.finished)
            }
            OperationKind::Release => {
                (self.claims.finish_release(operation, patience), &mut report.finished)
            }
            OperationKind::Return => {
                (self.devices.finish_return(operation, patience), &mut report.finished)
            }
            OperationKind::VfCount => {
                (self.vf_counts.recover(operation, patience), &mut report.undone)
            }
            // A retry for a wedged claim: the comparison that follows starts a new one.
            OperationKind::Restore => {
                let closed =
                    self.journal.close_operation(operation, Outcome::Failed, None, |_| Ok(()));
                return closed;
            }
        };
        match result {
            Ok(notes) => {
                list.push(format!("{} of {name}", operation.kind));
                report.notes.extend(notes);
                Ok(())
            }
            Err(refusal) if refusal.code == Code::StateUnusable => Err(refusal),
            Err(refusal) => {
                report.notes.push(format!(
                    "{} of {name}: {}. {}",
                    operation.kind, refusal.message, refusal.remedy
                ));
                Ok(())
            }
        }
    }

    /// The instance's name or the claim's owner, for messages.
    fn name_of(&self, subject: Uuid) -> Result<String, Refusal> {
        let (row, claim) = self.store.read(|from| {
            Ok((StoredInstance::by_id(from, subject)?, StoredClaim::by_id(from, subject)?))
        })?;
        let claim = claim.map(|claim| claim.claim.owner.to_string());
        Ok(row.map(|row| row.instance.name).or(claim).unwrap_or_else(|| subject.to_string()))
    }

    /// Retries to restore wedged claims, except those with a step that is still running in the kernel.
    fn retry_wedged(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        for claim in self.store.read(StoredClaim::all)? {
            if claim.claim.state != ClaimState::Wedged {
                continue;
            }
            let head = claim.claim.head().map(|head| head.to_string()).unwrap_or_default();
            if self.hardware.any_locked(claim.claim.taken())? {
                report.notes.push(format!(
                    "{head} is not restored yet: a step on it is still running in the kernel"
                ));
                continue;
            }
            match self.claims.retry(claim) {
                Ok(notes) => report.notes.extend(notes),
                Err(refusal) if refusal.code == Code::StateUnusable => return Err(refusal),
                Err(refusal) => report.notes.push(format!("{head}: {}", refusal.message)),
            }
        }
        Ok(())
    }
}
