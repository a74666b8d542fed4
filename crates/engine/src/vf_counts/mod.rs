//! The number of virtual functions of a device: configuration, set by a person, restored at each boot, and never a side
//! effect of a claim.

use std::sync::Arc;
use std::time::Duration;

use model::{Address, Claim, Code, Inventory, Observed, Part, Refusal, Step, restoring};
use rusqlite::Connection;
use uuid::Uuid;

use crate::HealthState;
use crate::consent::Consent;
use crate::hardware::Hardware;
use crate::journal::Journal;
use crate::lock::lock;
use crate::marks::Marks;
use crate::refusals::{self, with_failed_undo};
use crate::registrations;
use crate::store::{
    Durability, Health, OpenOperation, Recorded, Store, StoredClaim, StoredInstance, VfCount,
};
use crate::{OperationKind, Outcome, RecoveryReport, VfConfiguration};

/// Numbers of virtual functions: [`Engine::vf_counts`](crate::Engine::vf_counts). Owns the table `vf_counts`.
pub struct VfCounts {
    store: Arc<Store>,
    journal: Arc<Journal>,
    hardware: Arc<Hardware>,
    marks: Arc<Marks>,
}

impl VfCounts {
    pub(crate) fn new(journal: Arc<Journal>, hardware: Arc<Hardware>, marks: Arc<Marks>) -> Self {
        Self { store: journal.store.clone(), journal, hardware, marks }
    }

    /// Sets the number of virtual functions of a device, now and at each boot, and whether host drivers bind new ones. With
    /// the number 0 they do, which is the kernel's default.
    ///
    /// # Errors
    /// `not_assignable`, `insufficient_resources`, `in_use`; `step_failed` if the kernel refuses: changes are rolled
    /// back.
    pub fn set(&self, key: &str, count: u16, autoprobe: bool) -> Result<(), Refusal> {
        let autoprobe = autoprobe || count == 0;
        let address = registrations::address_of(&self.store, key)?;
        let subject = subject(address);
        let _turn = self.journal.turn_of(subject)?;
        let inventory = self.hardware.inventory()?;
        self.expect_changeable(&inventory, address, count)?;
        let found = self.hardware.as_found(address)?;
        let wanted = VfCount { address, fingerprint: found.fingerprint, count, autoprobe };
        let operation = {
            // A claim recorded meanwhile wins; from here on, claims wait until this operation ends.
            let _allocation = lock(&self.journal.allocation);
            self.expect_unclaimed(&inventory, address)?;
            self.journal.open_operation(OperationKind::VfCount, subject, |_| Ok(()))?
        };
        let keep = |tx: &rusqlite::Transaction<'_>| {
            if count == 0 { VfCount::delete(tx, address) } else { wanted.put(tx) }
        };
        let result = self
            .create_vfs(&operation, &inventory, &wanted)
            .and_then(|()| self.journal.close_operation(&operation, Outcome::Done, None, keep));
        match result {
            Ok(()) => Ok(()),
            Err(cause) => match self.undo(&operation, &cause) {
                Ok(notes) => Err(with_notes(cause, &notes)),
                Err(undo) => Err(with_failed_undo(&cause, &undo)),
            },
        }
    }

    /// The configured numbers of virtual functions.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn all(&self) -> Result<Vec<VfConfiguration>, Refusal> {
        let all = self.store.read(VfCount::all)?;
        Ok(all
            .into_iter()
            .map(|one| VfConfiguration {
                address: one.address,
                count: one.count,
                autoprobe: one.autoprobe,
            })
            .collect())
    }

    /// Sets autoprobe first, so that no host driver binds a new function that is for guests; then sets the number.
    fn create_vfs(
        &self,
        operation: &OpenOperation,
        inventory: &Inventory,
        wanted: &VfCount,
    ) -> Result<(), Refusal> {
        let address = wanted.address;
        let sriov = inventory.function(address).and_then(|function| function.sriov.clone());
        let Some(sriov) = sriov else { return Err(model::no_such_function(address)) };
        let (from, to) = (sriov.autoprobe, wanted.autoprobe);
        if let Some(from) = from.filter(|from| *from != to) {
            self.journal.perform(
                operation,
                operation.subject,
                &Step::SetAutoprobe { address, from, to },
            )?;
        }
        let from = u16::try_from(sriov.present.len()).unwrap_or(u16::MAX);
        let to = wanted.count;
        Ok(self.journal.perform(
            operation,
            operation.subject,
            &Step::SetVfCount { address, from, to },
        )?)
    }

    /// Refuses a change that would remove virtual functions in use, or while the device is claimed.
    fn expect_changeable(
        &self,
        inventory: &Inventory,
        address: Address,
        count: u16,
    ) -> Result<(), Refusal> {
        let function =
            inventory.function(address).ok_or_else(|| model::no_such_function(address))?;
        let Some(sriov) = &function.sriov else {
            return Err(Refusal::new(
                Code::NotAssignable,
                format!("{address} cannot have virtual functions: it has no SR-IOV"),
                format!(
                    "`handover show {address}` shows what it supports; the firmware may have disabled SR-IOV"
                ),
            ));
        };
        if count > sriov.total {
            return Err(Refusal::new(
                Code::InsufficientResources,
                format!(
                    "{address} supports at most {} virtual functions, not {count}",
                    sriov.total
                ),
                format!("ask for at most {}", sriov.total),
            ));
        }
        let health = self.store.read(Health::all)?;
        if let Some(health) = health.iter().find(|health| health.address == address) {
            return Err(refusals::unhealthy(health));
        }
        self.expect_unclaimed(inventory, address)?;
        if usize::from(count) == sriov.present.len() || sriov.present.is_empty() {
            return Ok(());
        }
        // The kernel sets the number to 0 first, which removes all existing ones.
        self.hardware.expect_no_holder(&sriov.present, Consent::NONE)
    }

    /// Refuses if the device or one of its virtual functions is claimed or marked.
    fn expect_unclaimed(&self, inventory: &Inventory, address: Address) -> Result<(), Refusal> {
        let claims = self.store.read(StoredClaim::all)?;
        let vfs = inventory.function(address).map_or(&[][..], |f| f.virtual_functions());
        let claim_of = |address: &Address| {
            claims.iter().find(|claim| claim.claim.covers(*address) || claim.claim.pins(*address))
        };
        let Some(claim) = vfs.iter().chain([&address]).find_map(claim_of) else {
            let all: Vec<Address> = vfs.iter().copied().chain([address]).collect();
            return self.marks.marked(&all)?.into_values().next().map_or(Ok(()), Err);
        };
        let (instances, health) =
            self.store.read(|from| Ok((StoredInstance::all(from)?, Health::all(from)?)))?;
        let why = refusals::claimed(claim, &instances, &health);
        let message = format!("{address} or one of its virtual functions {}", why.message);
        Err(Refusal { message, ..why })
    }

    /// Refuses a claim on a device, or on a partition of it, while its number of virtual functions is being changed.
    pub(crate) fn expect_no_change(&self, claim: &Claim) -> Result<(), Refusal> {
        let open = self.store.read(OpenOperation::all)?;
        let changing = |address: &Address| {
            open.iter().any(|operation| {
                operation.kind == OperationKind::VfCount && operation.subject == subject(*address)
            })
        };
        let members = claim.members().map(|member| member.address);
        let mut all = members.chain(claim.parts.iter().filter_map(Part::pins));
        all.find(changing).map_or(Ok(()), |address| {
            Err(Refusal::new(
                Code::InUse,
                format!("the number of virtual functions of {address} is being changed now"),
                "retry when the change is done",
            ))
        })
    }

    /// Rolls back a change. If that fails, the device is marked as wedged, and clearing it retries the rollback.
    fn undo(&self, operation: &OpenOperation, cause: &Refusal) -> Result<Vec<String>, Refusal> {
        let subject = operation.subject;
        let recorded = self.store.read(|from| {
            Recorded::of_claim(from, subject, Some(operation.id), &self.journal.boot)
        })?;
        let done: Vec<Step> = recorded.iter().filter_map(Recorded::step).cloned().collect();
        let mut notes = Vec::new();
        let failed = self.restore_vfs(operation, &done, &mut notes)?;
        let ended = if failed.is_some() { Outcome::Failed } else { Outcome::Undone };
        self.journal
            .close_operation(operation, ended, Some(&cause.message), |tx| {
                let Some((address, refusal)) = &failed else {
                    return Recorded::mark_undone(tx, subject, Some(operation.id));
                };
                Health::mark(tx, *address, HealthState::Wedged, &refusal.message)
            })
            .map_err(refusals::rolled_back_not_recorded)?;
        failed.map_or(Ok(notes), |(_, refusal)| Err(refusal))
    }

    /// Undoes steps in reverse; stops at and returns the first failure. Notes what can no longer be undone. It must
    /// stop: virtual functions that are created before autoprobe is restored would get other drivers than before.
    fn restore_vfs(
        &self,
        operation: &OpenOperation,
        done: &[Step],
        notes: &mut Vec<String>,
    ) -> Result<Option<(Address, Refusal)>, Refusal> {
        let inventory = self.hardware.inventory()?;
        for step in restoring(done) {
            let Some(address) = step.address() else { continue };
            let step = from_present_count(&inventory, step);
            if has_lost_its_driver(&inventory, &step) {
                notes.push(format!(
                    "skipped {:?}: another tool unbound the driver of {address}, and virtual functions need it",
                    step.describe()
                ));
                continue;
            }
            let undone = match self.hardware.host.observe(&step) {
                Ok(Observed::Before | Observed::Other(_)) => {
                    self.journal.restore(operation, operation.subject, &step).map_err(Refusal::from)
                }
                Ok(Observed::After | Observed::Absent) => Ok(()),
                Err(error) => Err(refusals::step_failed(&error)),
            };
            if let Err(refusal) = undone {
                return Ok(Some((address, refusals::not_restored(address, refusal))));
            }
        }
        Ok(None)
    }

    /// Retries rollbacks that failed, of this device or of all.
    pub(crate) fn retry(&self, of: Option<Address>) -> Result<Vec<String>, Refusal> {
        let mut notes = Vec::new();
        for health in self.store.read(Health::all)? {
            let address = health.address;
            if of.is_some_and(|of| of != address) || self.hardware.any_locked([address])? {
                continue;
            }
            let subject = subject(address);
            let _turn = self.journal.turns.take(subject);
            let failed = |from: &Connection| Recorded::of_failed(from, subject, &self.journal.boot);
            let recorded = self.store.read(failed)?;
            let mut done: Vec<Step> = recorded.iter().filter_map(Recorded::step).cloned().collect();
            if done.is_empty() {
                continue;
            }
            let last_retry =
                self.store.read(|from| Recorded::last_retry(from, subject, &self.journal.boot))?;
            let inventory = self.hardware.inventory()?;
            done.retain(|step| {
                let ours = is_still_ours(&inventory, step, last_retry.as_ref().and_then(Recorded::step));
                if !ours {
                    notes.push(format!("{address} is left alone: another tool changed its number of virtual functions since"));
                }
                ours
            });
            let operation =
                self.journal.open_operation(OperationKind::Restore, subject, |_| Ok(()))?;
            let failed = self.restore_vfs(&operation, &done, &mut notes)?;
            let message = failed.as_ref().map(|(_, refusal)| refusal.message.clone());
            let ended = if failed.is_some() { Outcome::Failed } else { Outcome::Done };
            self.journal.close_operation(
                &operation,
                ended,
                message.as_deref(),
                |tx| match failed {
                    Some(_) => Ok(()),
                    None => Recorded::mark_failed_undone(tx, subject),
                },
            )?;
            match failed {
                Some((_, refusal)) if of.is_some() => return Err(refusal),
                Some((_, refusal)) => notes.push(refusal.message),
                None if of.is_none() => notes.push(format!(
                    "{address}: the rollback of its number of virtual functions is done; run `handover device clear {address}`"
                )),
                None => {}
            }
        }
        Ok(notes)
    }

    /// Rolls back an interrupted change: the number that was configured before stays.
    pub(crate) fn recover(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let recorded = self.store.read(|from| {
            Recorded::of_claim(from, operation.subject, Some(operation.id), &self.journal.boot)
        })?;
        let functions: Vec<Address> =
            recorded.iter().filter_map(|recorded| recorded.step()?.address()).collect();
        self.hardware.wait_for_workers(functions, patience)?;
        self.undo(operation, &crate::refusals::interrupted(OperationKind::VfCount))
    }

    /// Creates virtual functions that are configured but absent: after a boot there are none.
    pub(crate) fn restore_all(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let configured = self.store.read(VfCount::all)?;
        if configured.is_empty() {
            return Ok(());
        }
        let inventory = self.hardware.inventory()?;
        for wanted in configured {
            match self.restore_one(&inventory, &wanted) {
                Ok(None) => {}
                Ok(Some(done)) => report.restored.push(done),
                Err(refusal) if refusal.code == Code::StateUnusable => return Err(refusal),
                Err(refusal) => report.notes.push(format!(
                    "cannot create the virtual functions of {}: {}. {}",
                    wanted.address, refusal.message, refusal.remedy
                )),
            }
        }
        Ok(())
    }

    fn restore_one(
        &self,
        inventory: &Inventory,
        wanted: &VfCount,
    ) -> Result<Option<String>, Refusal> {
        let address = wanted.address;
        let function =
            inventory.function(address).ok_or_else(|| model::no_such_function(address))?;
        let there = function.virtual_functions().len();
        if there == usize::from(wanted.count) {
            return Ok(None);
        }
        if there > 0 {
            return Err(Refusal::new(
                Code::Conflict,
                format!(
                    "it has {there} virtual functions created by another tool, but {} are configured",
                    wanted.count
                ),
                format!("run `handover sriov set {address} {}`", wanted.count),
            ));
        }
        if !wanted.fingerprint.matches(&self.hardware.as_found(address)?.fingerprint) {
            return Err(refusals::fingerprint_changed(address));
        }
        let subject = subject(address);
        let _turn = self.journal.turns.take(subject);
        let open = |_: &rusqlite::Transaction<'_>| Ok(());
        let operation = self.journal.open_operation_as(
            Durability::Process,
            OperationKind::VfCount,
            subject,
            open,
        )?;
        let result = self.create_vfs(&operation, inventory, wanted).and_then(|()| {
            self.journal.close_operation(&operation, Outcome::Done, None, |_| Ok(()))
        });
        if let Err(cause) = result {
            let notes = self.undo(&operation, &cause)?;
            return Err(with_notes(cause, &notes));
        }
        Ok(Some(format!("{} virtual functions of {address}", wanted.count)))
    }
}

/// The refusal with notes on what could not be restored appended.
fn with_notes(mut cause: Refusal, notes: &[String]) -> Refusal {
    for note in notes {
        cause.message.push_str("; ");
        cause.message.push_str(note);
    }
    cause
}

/// The step, starting from the number of virtual functions that exist now: the kernel may have created fewer than
/// requested.
fn from_present_count(inventory: &Inventory, step: Step) -> Step {
    let Step::SetVfCount { address, to, .. } = step else { return step };
    let there = inventory.function(address).map_or(0, |f| f.virtual_functions().len());
    Step::SetVfCount { address, from: u16::try_from(there).unwrap_or(u16::MAX), to }
}

/// Whether the current number of virtual functions can result from our change or from the last retry of its rollback,
/// which may have stopped anywhere: the number set, the number found then, or 0 in between.
fn is_still_ours(inventory: &Inventory, done: &Step, last_retry: Option<&Step>) -> bool {
    let (Step::SetVfCount { address, to, .. }, Some(Step::SetVfCount { from, .. })) =
        (done, last_retry)
    else {
        return true;
    };
    let there = inventory.function(*address).map_or(0, |f| f.virtual_functions().len());
    [0, *to, *from].into_iter().any(|ours| usize::from(ours) == there)
}

/// Whether the step would create virtual functions on a physical function that has lost its driver. The old ones went
/// with the driver, and none can be created without one (`sriov_numvfs_store` in drivers/pci/iov.c).
fn has_lost_its_driver(inventory: &Inventory, step: &Step) -> bool {
    let Step::SetVfCount { address, from: 0, .. } = step else { return false };
    inventory.function(*address).is_some_and(|f| f.driver.is_none() || f.on_vfio())
}

/// The subject of operations on a device's configuration: an id derived from its address.
fn subject(address: Address) -> Uuid {
    let place = (u64::from(address.domain()) << 16)
        | (u64::from(address.bus()) << 8)
        | (u64::from(address.device()) << 3)
        | u64::from(address.function());
    Uuid::from_u64_pair(0x6861_6e64_6f76_8001, 0x8000_0000_0000_0000 | place)
}
