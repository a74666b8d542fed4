//! Recovery: what the journal left open is finished or undone, by what the host really shows.

use std::time::Duration;

use model::{ClaimState, Code, Exit, Presence, Refusal};
use uuid::Uuid;

use crate::core::{Core, held};
use crate::instances::interrupted;

use crate::store::{Durability, OpenOperation, Recorded, StoredClaim, StoredImage, StoredInstance};
use crate::{InstanceState, Operation, OperationKind, Outcome, RecoveryReport};

impl Core {
    /// Brings devices, machines and records together again. It can itself be cut off anywhere: the next one goes on.
    pub fn recover(&self) -> Result<RecoveryReport, Refusal> {
        let mut report = RecoveryReport::default();
        self.write(Durability::Power, |tx| {
            Recorded::void_other_boots(tx, &self.boot)?;
            StoredClaim::forget_other_boots(tx, &self.boot)
        })?;
        for operation in self.store.read(OpenOperation::all)? {
            let _turn = self.turn(operation.subject);
            self.recover_operation(&operation, *held(&self.patience), &mut report)?;
        }
        // What is left of changes that failed goes before what is configured comes.
        report.notes.extend(self.retry_vf_counts(None)?);
        self.restore_vf_counts(&mut report)?;
        self.compare(&mut report)?;
        self.recover_images(&mut report)?;
        self.write(Durability::Process, |tx| Operation::prune(tx))?;
        *held(&self.last_report) = Some(report.clone());
        Ok(report)
    }

    /// Compares records and host again while the daemon works. What is being worked on is left to those who do.
    pub fn reconcile(&self) -> Result<RecoveryReport, Refusal> {
        let mut report = RecoveryReport::default();
        self.recover_left_open(None, &mut report)?;
        self.compare(&mut report)?;
        *held(&self.last_report) = Some(report.clone());
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
                None => match self.turn_left_open(subject) {
                    Some(turn) => Some(turn),
                    None => continue,
                },
            };
            // Whoever worked on it may have ended it before we had the turn.
            if self.store.read(|from| operation.is_open(from))? {
                self.recover_operation(&operation, self.moment(), report)?;
            }
            self.is_left_open_no_more(subject);
            drop(turn);
        }
        Ok(())
    }

    fn compare(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        self.retry_wedged(report)?;
        report.notes.extend(self.retry_vf_counts(None)?);
        for row in self.store.read(StoredInstance::all)? {
            let Some(_turn) = self.try_turn(row.instance.id) else { continue };
            // It may have changed before we had the turn.
            let id = row.instance.id;
            let Some(row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
                continue;
            };
            self.find_machine(row, report)?;
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
            OperationKind::Create => (self.recover_create(operation, patience), &mut report.undone),
            OperationKind::Start => (self.recover_start(operation, patience), &mut report.undone),
            OperationKind::Stop => (self.finish_stop(operation), &mut report.finished),
            OperationKind::Delete => {
                (self.finish_delete(operation, patience), &mut report.finished)
            }
            OperationKind::Claim => (
                self.undo_claim(operation, &interrupted(OperationKind::Claim), patience),
                &mut report.undone,
            ),
            OperationKind::Prepare => (
                self.undo_prepare(operation, &interrupted(OperationKind::Prepare), patience),
                &mut report.undone,
            ),
            OperationKind::Unprepare => {
                (self.finish_unprepare(operation, patience), &mut report.finished)
            }
            OperationKind::Release => {
                (self.finish_release(operation, patience), &mut report.finished)
            }
            OperationKind::Recover => {
                (self.finish_recover(operation, patience), &mut report.finished)
            }
            OperationKind::VfCount => {
                (self.recover_vf_count(operation, patience), &mut report.undone)
            }
            // A retry of something wedged: the comparison that follows makes a new one.
            OperationKind::Restore => {
                let closed = self.close_operation(operation, Outcome::Failed, None, |_| Ok(()));
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
            if self.any_locked(claim.claim.taken())? {
                report.notes.push(format!("{head} waits for a worker that is inside the kernel"));
                continue;
            }
            match self.retry(claim) {
                Ok(notes) => report.notes.extend(notes),
                Err(refusal) if refusal.code == Code::StateUnusable => return Err(refusal),
                Err(refusal) => report.notes.push(format!("{head}: {}", refusal.message)),
            }
        }
        Ok(())
    }

    /// Finds the machine of an instance that is said to run.
    fn find_machine(
        &self,
        mut row: StoredInstance,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        if matches!(
            row.instance.state,
            InstanceState::Created | InstanceState::Stopped | InstanceState::Shutdown
        ) {
            return Ok(());
        }
        let id = row.instance.id;
        // A machine does not outlive its boot.
        if row.machine.as_ref().is_some_and(|machine| machine.boot_id != self.boot) {
            row.ended(InstanceState::Stopped, Exit { code: None });
            row.instance.state_error = Some("the host was restarted".into());
            return self.save(&row);
        }
        match self.launcher(&row.instance.hypervisor)?.find(id) {
            Presence::Running(handle) => {
                row.instance.state = InstanceState::Running;
                row.instance.state_error = None;
                row.instance.pid = handle.pid();
                row.machine = Some(handle.clone());
                self.save(&row)?;
                self.watch(&row.instance.hypervisor, handle)?;
                report.adopted.push(id);
                Ok(())
            }
            Presence::Gone => {
                row.ended(InstanceState::Shutdown, Exit { code: None });
                self.save(&row)
            }
            Presence::Unknown(why) => {
                report.notes.push(format!(
                    "it cannot be told whether {:?} runs ({why}); its devices are not touched",
                    row.instance.name
                ));
                row.instance.state = InstanceState::Unknown;
                row.instance.state_error = Some(why);
                self.save(&row)
            }
        }
    }

    fn recover_images(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let known = self.write(Durability::Power, |tx| {
            StoredImage::fail_unfinished(
                tx,
                "the daemon ended during the import; import it again",
            )?;
            StoredImage::all(tx)
        })?;
        let known = known.into_iter().map(|stored| stored.id).collect();
        if let Err(error) = self.images.sweep(&known) {
            report.notes.push(error.to_string());
        }
        Ok(())
    }
}
