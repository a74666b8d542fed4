//! Recovery: finishes or rolls back operations that the journal has as open, by comparing it with the host.

mod compare;
mod groups;
mod order;
mod progress;

use std::collections::BTreeSet;
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
use crate::refusals::{self, interrupted};
use crate::store::{Durability, OpenOperation, Recorded, Store, StoredClaim, StoredInstance};
use crate::vf_counts::VfCounts;
use crate::{OperationKind, Outcome, RecoveryReport};

pub use order::Order;
pub use progress::{RecoveryTask, RecoveryTaskState};

use groups::{Touching, independent};
use order::Job;
use progress::{Listed, Progress, list};

/// How many independent parts are recovered in parallel. Most of them only wait.
const AT_ONCE: usize = 64;

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
    /// How many independent parts are recovered in parallel.
    at_once: Mutex<usize>,
    progress: Progress,
}

impl CompletesOperations for Recovery {
    fn complete(&self, subject: Uuid) -> Result<(), Refusal> {
        for operation in self.store.read(OpenOperation::all)? {
            if operation.subject == subject {
                self.recover_operation(
                    &operation,
                    self.journal.worker_wait(),
                    &mut RecoveryReport::default(),
                )?;
                self.journal.forget_left_open(subject);
            }
        }
        Ok(())
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
            at_once: Mutex::new(AT_ONCE),
            progress: Progress::default(),
        }
    }

    /// Limits how many independent parts are recovered in parallel.
    pub fn limit_at_once(&self, most: usize) {
        *lock(&self.at_once) = most;
    }

    /// The usual order: in parallel.
    pub fn parallel(&self) -> Order<'static> {
        Order::Parallel(*lock(&self.at_once))
    }

    /// The parts of a running [`recover`](Self::recover) that have not ended yet.
    pub fn unfinished(&self) -> Vec<RecoveryTask> {
        self.progress.tasks(&self.hardware.waited_for())
    }

    /// The last report of [`recover`](Self::recover) or [`reconcile`](Self::reconcile); `None` before the first.
    pub fn last_report(&self) -> Option<RecoveryReport> {
        lock(&self.last_report).clone()
    }

    /// Ends the operations that were left open while the journal could not be written, then quarantines functions of
    /// prepared claims that no longer answer. Returns these functions, each with the reason.
    pub fn check_claims(&self) -> Result<Vec<(Address, String)>, Refusal> {
        let mut report = RecoveryReport::default();
        self.recover_left_open(&mut report)?;
        report.finished.iter().chain(&report.undone).chain(&report.notes).for_each(|note| {
            tracing::warn!("completed after a failed write to the journal: {note}");
        });
        // A device that no longer answers is not kept waiting by machines that do not.
        let lost = self.devices.quarantine_silent()?;
        self.instances.look_after_devices()?;
        self.prune();
        Ok(lost)
    }

    /// Recovers after a start. It can be interrupted anywhere: the next recovery continues. Operations that touch
    /// different devices do not wait for each other, nor does anything else for them.
    pub fn recover(&self, mut order: Order<'_>) -> Result<RecoveryReport, Refusal> {
        let mut report = RecoveryReport::default();
        self.store.write(Durability::Power, |tx| {
            Recorded::void_other_boots(tx, &self.journal.boot)?;
            StoredClaim::forget_other_boots(tx, &self.journal.boot)
        })?;
        let groups = self.open_operations()?;
        let mut interrupted: BTreeSet<Uuid> =
            groups.iter().flatten().map(|one| one.operation.subject).collect();
        for subject in interrupted.clone() {
            interrupted.extend(self.instance_of(subject)?);
        }
        let mut jobs = Vec::new();
        for group in groups {
            jobs.push(self.recovers(group)?);
        }
        jobs.push(Box::new(|report: &mut RecoveryReport| {
            self.find_machines(|id| !interrupted.contains(&id), report)?;
            report.notes.extend(self.images.recover()?);
            Ok(())
        }));
        order.perform(jobs, &mut report)?;
        // Not beside a delete that is finished, which removes volumes and their files.
        report.notes.extend(self.instances.recover_volumes()?);
        self.instances.note_unrecorded(&mut report)?;
        // Failed changes are rolled back before the configuration is restored.
        report.notes.extend(self.vf_counts.retry(None)?);
        self.vf_counts.restore_all(&mut report)?;
        self.retry_wedged(&mut order, &mut report)?;
        report.notes.extend(self.vf_counts.retry(None)?);
        self.compare_claims(&mut report)?;
        self.prune();
        *lock(&self.last_report) = Some(report.clone());
        Ok(report)
    }

    /// Recovers these operations one after another, then finds the machines of their instances.
    fn recovers(&self, group: Vec<Touching>) -> Result<Job<'_>, Refusal> {
        let patience = *lock(&self.journal.patience);
        let listed: Vec<(OpenOperation, Listed<'_>)> = group
            .into_iter()
            .map(|one| Ok((one.operation.clone(), self.progress.add(self.task(&one)?))))
            .collect::<Result<_, Refusal>>()?;
        Ok(Box::new(move |report| {
            for (operation, listed) in listed {
                listed.begin();
                let subject = operation.subject;
                let instance = self.instance_of(subject)?;
                {
                    let _turn = self.journal.turns.take(subject);
                    self.recover_operation(&operation, patience, report)?;
                }
                self.find_machines(|id| id == subject || Some(id) == instance, report)?;
            }
            Ok(())
        }))
    }

    /// The instance that has the claim of this id: a device that its machine no longer has is given back by an operation on the
    /// claim.
    fn instance_of(&self, claim: Uuid) -> Result<Option<Uuid>, Refusal> {
        let claim = self.store.read(|from| StoredClaim::by_id(from, claim))?;
        Ok(claim.and_then(|claim| claim.instance()))
    }

    fn task(&self, one: &Touching) -> Result<RecoveryTask, Refusal> {
        let devices = one.functions();
        let named = self.find_name(one.operation.subject)?;
        Ok(RecoveryTask {
            operation: one.operation.kind,
            of: named.unwrap_or_else(|| list(&devices)),
            devices,
            step: one.step.clone(),
            state: RecoveryTaskState::Queued,
            stuck: Vec::new(),
        })
    }

    /// The open operations, in groups that touch different devices.
    fn open_operations(&self) -> Result<Vec<Vec<Touching>>, Refusal> {
        let all = self.store.read(|from| {
            let all = OpenOperation::all(from)?.into_iter();
            all.map(|one| Touching::read(from, one, &self.journal.boot)).collect()
        })?;
        Ok(independent(all))
    }

    fn prune(&self) {
        if let Err(refusal) = self.journal.prune() {
            tracing::warn!("cannot prune the journal: {}", refusal.message);
        }
    }

    /// Compares the records with the host while the daemon runs. Skips subjects that an operation works on.
    pub fn reconcile(&self) -> Result<RecoveryReport, Refusal> {
        let mut report = RecoveryReport::default();
        self.recover_left_open(&mut report)?;
        self.retry_wedged(&mut self.parallel(), &mut report)?;
        report.notes.extend(self.vf_counts.retry(None)?);
        self.find_machines(|_| true, &mut report)?;
        self.instances.note_unrecorded(&mut report)?;
        self.compare_claims(&mut report)?;
        self.note_unrecorded_marks(&mut report)?;
        *lock(&self.last_report) = Some(report.clone());
        Ok(report)
    }

    /// Finishes or rolls back operations that were left open because the journal could not be written: of all subjects
    /// whose turn is free.
    fn recover_left_open(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let patience = self.journal.worker_wait();
        let job = |group: Vec<Touching>| -> Job<'_> {
            Box::new(move |report| {
                for Touching { operation, .. } in group {
                    let subject = operation.subject;
                    let Some(_turn) = self.journal.turn_left_open(subject) else { continue };
                    // It may have ended before we had the turn.
                    if self.store.read(|from| operation.is_open(from))? {
                        self.recover_operation(&operation, patience, report)?;
                    }
                    self.journal.forget_left_open(subject);
                }
                Ok(())
            })
        };
        let jobs = self.open_operations()?.into_iter().map(job).collect();
        self.parallel().perform(jobs, report)?;
        self.record_restored(report)
    }

    /// Restores again the wedged claims that were restored while the journal could not be written: their devices need
    /// nothing, and the records follow.
    fn record_restored(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let claims = self.store.read(StoredClaim::all)?.into_iter();
        claims
            .filter(|claim| claim.claim.state == ClaimState::Wedged)
            .filter(|claim| self.claims.lacks_record_of_restoring(claim.claim.id))
            .try_for_each(|claim| self.retry_one_wedged(claim, report))
    }

    /// Finds the machines of the instances `of`, except those that an operation works on.
    fn find_machines(
        &self,
        of: impl Fn(Uuid) -> bool,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        for row in self.store.read(StoredInstance::all)? {
            let id = row.instance.id;
            if !of(id) {
                continue;
            }
            let Some(_turn) = self.journal.turns.try_take(id) else { continue };
            // It may have changed before we had the turn.
            let Some(row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
                continue;
            };
            self.instances.find_machine(row, report)?;
        }
        Ok(())
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
            OperationKind::Attach => {
                let (is_in, result) = self.instances.recover_attach(operation, patience);
                (result, if is_in { &mut report.finished } else { &mut report.undone })
            }
            OperationKind::Detach => {
                (self.instances.recover_detach(operation, patience), &mut report.finished)
            }
            OperationKind::Stop => (self.instances.recover_stop(operation), &mut report.finished),
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
            // A retry for a wedged claim: a new one follows.
            OperationKind::Restore => {
                return self.journal.close_operation(operation, Outcome::Failed, None, |_| Ok(()));
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
        Ok(self.find_name(subject)?.unwrap_or_else(|| subject.to_string()))
    }

    fn find_name(&self, subject: Uuid) -> Result<Option<String>, Refusal> {
        let (row, claim) = self.store.read(|from| {
            Ok((StoredInstance::by_id(from, subject)?, StoredClaim::by_id(from, subject)?))
        })?;
        let claim = claim.map(|claim| claim.claim.owner.to_string());
        Ok(row.map(|row| row.instance.name).or(claim))
    }

    /// Retries to restore wedged claims, except those with a step that is still running in the kernel.
    fn retry_wedged(
        &self,
        order: &mut Order<'_>,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for claim in self.store.read(StoredClaim::all)? {
            if claim.claim.state != ClaimState::Wedged {
                continue;
            }
            let listed = self.progress.add(RecoveryTask {
                operation: OperationKind::Restore,
                of: claim.claim.owner.to_string(),
                devices: claim.claim.taken().collect(),
                step: None,
                state: RecoveryTaskState::Queued,
                stuck: Vec::new(),
            });
            jobs.push(Box::new(move |report| {
                listed.begin();
                self.retry_one_wedged(claim, report)
            }));
        }
        order.perform(jobs, report)
    }

    fn retry_one_wedged(
        &self,
        claim: StoredClaim,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        let head = claim.claim.head().map(|head| head.to_string()).unwrap_or_default();
        // A request that only reads can have a lock for a moment.
        let patience = self.journal.worker_wait();
        if !self.hardware.wait_for_workers(claim.claim.taken(), patience)?.is_empty() {
            report.notes.push(format!(
                "{head} is not restored yet: a step on it is still running in the kernel"
            ));
            return Ok(());
        }
        match self.claims.retry(claim) {
            Ok(notes) => report.notes.extend(notes),
            Err(refusal) if refusal.code == Code::StateUnusable => return Err(refusal),
            Err(refusal) => {
                report.notes.push(refusals::naming(&head, &refusal.message));
            }
        }
        Ok(())
    }
}
