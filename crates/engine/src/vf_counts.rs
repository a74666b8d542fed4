//! How many virtual functions a device has: configuration, changed by a person and restored at each boot, and never a
//! side effect of a claim.

use std::time::Duration;

use model::{Address, AsFound, Code, HostError, Inventory, Refusal, Step, restoring};
use uuid::Uuid;

use crate::core::Core;
use crate::refusals::{self, with_failed_undo};
use crate::store::{Durability, Health, OpenOperation, Recorded, StoredClaim, VfCount};
use crate::{RecoveryReport, VfConfiguration};

impl Core {
    /// Sets the number of a device's virtual functions, now and at each boot from now on.
    pub fn set_vf_count(&self, key: &str, count: u16, autoprobe: bool) -> Result<(), Refusal> {
        let address = self.address_of(key)?;
        let subject = subject(address);
        let _turn = self.turn(subject);
        let inventory = self.inventory()?;
        self.expect_changeable(&inventory, address, count)?;
        let found = self.found(address)?;
        let wanted = VfCount { address, fingerprint: found.fingerprint, count, autoprobe };
        let operation = self.open_operation("vf-count", subject, |_| Ok(()))?;
        let keep = |tx: &rusqlite::Transaction<'_>| {
            if count == 0 { VfCount::delete(tx, address) } else { wanted.put(tx) }
        };
        match self.make_vfs(&operation, &inventory, &wanted) {
            Ok(()) => self.close_operation(&operation, "done", None, keep),
            Err(cause) => match self.undo_vf_count(&operation, &cause) {
                Ok(_) => Err(cause),
                Err(undo) => Err(with_failed_undo(&cause, &undo)),
            },
        }
    }

    /// What is configured.
    pub fn vf_configurations(&self) -> Result<Vec<VfConfiguration>, Refusal> {
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

    /// The steps: automatic drivers first, so that none of the new functions is taken by one that shall be a guest's.
    fn make_vfs(
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
            self.make(operation, operation.subject, &Step::SetAutoprobe { address, from, to })?;
        }
        let from = u16::try_from(sriov.present.len()).unwrap_or(u16::MAX);
        let to = wanted.count;
        Ok(self.make(operation, operation.subject, &Step::SetVfCount { address, from, to })?)
    }

    fn found(&self, address: Address) -> Result<AsFound, Refusal> {
        let unreadable = |error: HostError| refusals::unreadable(&error);
        let found = self.host.as_found(&[address]).map_err(unreadable)?;
        found.into_iter().next().ok_or_else(|| model::no_such_function(address))
    }

    /// Refuses a change that would take virtual functions from somebody, or the device itself.
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
                "`handover ls` shows what can; firmware may have it switched off",
            ));
        };
        if count > sriov.total {
            return Err(Refusal::new(
                Code::InsufficientResources,
                format!("{address} can have {} virtual functions, not {count}", sriov.total),
                format!("ask for at most {}", sriov.total),
            ));
        }
        let (claims, health) =
            self.store.read(|from| Ok((StoredClaim::all(from)?, Health::all(from)?)))?;
        let ours = |address: Address| {
            claims.iter().find(|claim| claim.claim.covers(address) || claim.claim.pins(address))
        };
        if let Some(health) = health.iter().find(|health| health.address == address) {
            return Err(refusals::unwell(health));
        }
        let vfs = sriov.present.iter().copied();
        if let Some(claim) = vfs.clone().chain([address]).find_map(ours) {
            return Err(Refusal::new(
                Code::InUse,
                format!(
                    "{address} or one of its virtual functions is claimed by {}",
                    claim.claim.owner
                ),
                format!("handover release {}", claim.claim.id),
            ));
        }
        if usize::from(count) == sriov.present.len() || sriov.present.is_empty() {
            return Ok(());
        }
        // The kernel changes the number through 0: all that are there go.
        self.expect_no_holder(&vfs.collect::<Vec<_>>(), false)
    }

    fn undo_vf_count(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
    ) -> Result<Vec<String>, Refusal> {
        let subject = operation.subject;
        let recorded = self
            .store
            .read(|from| Recorded::of_claim(from, subject, Some(operation.id), &self.boot))?;
        let done: Vec<Step> = recorded.iter().filter_map(Recorded::step).cloned().collect();
        let mut failed = None;
        let inventory = self.inventory()?;
        for step in restoring(&done) {
            let step = from_what_is_there(&inventory, step);
            let undone = match self.host.observe(&step) {
                Ok(model::Observed::Before | model::Observed::Other(_)) => {
                    self.restore(operation, subject, &step).map_err(Refusal::from)
                }
                Ok(model::Observed::After | model::Observed::Absent) => Ok(()),
                Err(error) => Err(refusals::step_failed(&error)),
            };
            failed = failed.or(undone.err());
        }
        let ended = if failed.is_some() { "failed" } else { "undone" };
        self.close_operation(operation, ended, Some(&cause.message), |tx| {
            Recorded::mark_undone(tx, subject, Some(operation.id))
        })?;
        failed.map_or(Ok(Vec::new()), Err)
    }

    /// A change that was cut off is undone: the number that was configured before holds.
    pub fn recover_vf_count(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let until = std::time::Instant::now() + patience;
        let recorded = self.store.read(|from| {
            Recorded::of_claim(from, operation.subject, Some(operation.id), &self.boot)
        })?;
        let functions: Vec<Address> =
            recorded.iter().filter_map(|recorded| recorded.step()?.address()).collect();
        while self.any_locked(functions.iter().copied())? && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.undo_vf_count(operation, &crate::instances::interrupted("vf-count"))
    }

    /// Makes the virtual functions that are configured and not there: after a boot there are none.
    pub fn restore_vf_counts(&self, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let configured = self.store.read(VfCount::all)?;
        if configured.is_empty() {
            return Ok(());
        }
        let inventory = self.inventory()?;
        for wanted in configured {
            match self.restore_vf_count(&inventory, &wanted) {
                Ok(None) => {}
                Ok(Some(done)) => report.restored.push(done),
                Err(refusal) if refusal.code == Code::StateUnusable => return Err(refusal),
                Err(refusal) => report.notes.push(format!(
                    "the virtual functions of {} were not made: {}. {}",
                    wanted.address, refusal.message, refusal.remedy
                )),
            }
        }
        Ok(())
    }

    fn restore_vf_count(
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
                    "it has {there}, and {} are configured; another tool made them",
                    wanted.count
                ),
                format!("handover sriov set {address} {}", wanted.count),
            ));
        }
        if !wanted.fingerprint.matches(&self.found(address)?.fingerprint) {
            return Err(crate::choose::changed(address));
        }
        let subject = subject(address);
        let _turn = self.turn(subject);
        let open = |_: &rusqlite::Transaction<'_>| Ok(());
        let operation = self.open_operation_as(Durability::Process, "vf-count", subject, open)?;
        if let Err(cause) = self.make_vfs(&operation, inventory, wanted) {
            self.undo_vf_count(&operation, &cause)?;
            return Err(cause);
        }
        self.close_operation(&operation, "done", None, |_| Ok(()))?;
        Ok(Some(format!("{} virtual functions of {address}", wanted.count)))
    }
}

/// Fewer virtual functions than asked for may have come: they go all the same.
fn from_what_is_there(inventory: &Inventory, step: Step) -> Step {
    let Step::SetVfCount { address, to, .. } = step else { return step };
    let there = inventory.function(address).map_or(0, |f| f.virtual_functions().len());
    Step::SetVfCount { address, from: u16::try_from(there).unwrap_or(u16::MAX), to }
}

/// What the operations on a device's configuration are about: an id of its own, made from its address.
fn subject(address: Address) -> Uuid {
    let place = (u64::from(address.domain()) << 16)
        | (u64::from(address.bus()) << 8)
        | (u64::from(address.device()) << 3)
        | u64::from(address.function());
    Uuid::from_u64_pair(0x6861_6e64_6f76_8001, 0x8000_0000_0000_0000 | place)
}
