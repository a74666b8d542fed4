//! Recovery: what the journal left open is finished or undone, by what the host really shows.

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

/// What puts devices, machines and records in agreement again.
pub struct Recovery {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    vf_counts: Arc<VfCounts>,
    claims: Arc<Claims>,
    devices: Arc<Devices>,
    images: Arc<Images>,
    instances: Arc<Instances>,
    /// What the last check of everything found.
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

    /// What the last check of everything found; `None` before the first.
    pub fn last_report(&self) -> Option<RecoveryReport> {
        lock(&self.last_report).clone()
    }

    /// Ends the operations that were left open while the journal could not be written, then quarantines the functions of
    /// prepared claims that do not answer any more. Returns the latter.
    pub fn check_claims(&self) -> Result<Vec<(Address, String)>, Refusal> {
        let mut report = RecoveryReport::default();
        self.recover_left_open(None, &mut report)?;
        report.finished.iter().chain(&report.undone).chain(&report.notes).for_each(|what| {
            tracing::warn!("after the journal could not be written: {what}");
        });
        self.journal.prune()?;
        self.devices.quarantine_silent()
    }

    /// Brings devices, machines and records together again. It can itself be cut off anywhere: the next one goes on.
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
        // What is left of changes that failed goes before what is configured comes.
        report.notes.extend(self.vf_counts.retry(None)?);
        self.vf_counts.restore_all(&mut report)?;
        self.compare(&mut report)?;
        report.notes.extend(self.images.recover()?);
        self.journal.prune()?;
        *lock(&self.last_report) = Some(report.clone());
        Ok(report)
    }

    /// Compares records and host again while the daemon works. What is being worked on is left to those who do.
    pub fn reconcile(&self) -> Result<RecoveryReport, Refusal> {
        let mut report = RecoveryReport::default();
        self.recover_left_open(None, &mut report)?;
        self.compare(&mut report)?;
        *lock(&self.last_report) = Some(report.clone());
        Ok(report)
    }

    /// Finishes or undoes the operations that are open and that nobody works on, of all subjects, or of one whose turn the
    /// caller has. They were left behind where the journal could not be written.
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
            // Whoever worked on it may have ended it before we had the turn.
            if self.store.read(|from| operation.is_open(from))? {
                self.recover_operation(&operation, self.journal.moment(), report)?;
            }
            self.journal.is_left_open_no_more(subject);
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
            // A retry of something wedged: the comparison that follows makes a new one.
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

    /// An instance's name, or a claim's owner, for a person.
    fn name_of(&self, subject: Uuid) -> Result<String, Refusal> {
        let (row, claim) = self.store.read(|from| {
            Ok((StoredInstance::by_id(from, subject)?, StoredClaim::by_id(from, subject)?))
        })?;
        let claim = claim.map(|claim| claim.claim.owner.to_string());
        Ok(row.map(|row| row.instance.name).or(claim).unwrap_or_else(|| subject.to_string()))
    }

    /// Devices that could not be given back, and that nothing holds in the kernel any more, are given back now.
    fn retry_wedged(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        for claim in self.store.read(StoredClaim::all)? {
            if claim.claim.state != ClaimState::Wedged {
                continue;
            }
            let head = claim.claim.head().map(|head| head.to_string()).unwrap_or_default();
            if self.hardware.any_locked(claim.claim.taken())? {
                report.notes.push(format!("{head} waits for a worker that is inside the kernel"));
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
