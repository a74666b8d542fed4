//! Taking a device from an instance, also while its machine runs. Interrupted, it is continued, unless the guest still has the
//! device: then it is given back as soon as the guest lets go.

use std::time::Duration;

use model::{ClaimState, Code, Refusal};

use super::moving::name_of;
use super::whereabouts::Whereabouts;
use super::{Instances, unknown, wrong_state};
use crate::refusals;
use crate::store::{Durability, Health, OpenOperation, StoredClaim, StoredInstance};
use crate::{Instance, InstanceState, OperationKind, Outcome};

/// How long a guest may take to let go of a device at recovery, which others wait for.
const RECOVERY: Duration = Duration::from_secs(2);

impl Instances {
    /// Takes a device from an instance, by its address, its name or id, or that of its mediated device, and returns it to the
    /// host. A running guest is asked to let go of it. Returns the instance, and notes on what was left alone.
    ///
    /// # Errors
    /// `not_found`; `invalid_state`; `guest_keeps_device` if the guest does not let go in time: the device stays the
    /// instance's, and is given back as soon as the guest does, or its machine ends; `device_wedged`, `undo_failed`.
    pub fn detach_device(
        &self,
        key: &str,
        device: &str,
        patience: Duration,
    ) -> Result<(Instance, Vec<String>), Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        let mut row = self.stored_instance(&id.to_string())?;
        let claim = self.claim_named(&row, device)?;
        self.resolve_unknown(&mut row)?;
        self.settle_devices(&mut row)?;
        if self.store.read(|from| StoredClaim::by_id(from, claim.claim.id))?.is_none() {
            // The guest has let go meanwhile.
            return Ok((row.instance, Vec::new()));
        }
        match row.instance.state {
            InstanceState::Running => {}
            InstanceState::Stopped | InstanceState::Shutdown => {
                self.remove_claim(&mut row, &claim)?;
                return Ok((row.instance, Vec::new()));
            }
            InstanceState::Paused => {
                let resume = format!(
                    "its guest must let go of the device: `handover instance resume {}` lets it continue",
                    row.instance.name
                );
                return Err(wrong_state(&row, "asked for a device", resume));
            }
            _ => {
                let show =
                    format!("`handover instance show {}` shows its state", row.instance.name);
                return Err(wrong_state(&row, "asked for a device", show));
            }
        }
        if claim.claim.state == ClaimState::Wedged {
            let reason = format!("{} could not be restored earlier", name_of(&claim));
            let health = self.store.read(Health::all)?;
            return Err(refusals::not_restored_earlier(&claim.claim, &health, &reason));
        }
        let others = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        let others = others.iter().map(|one| &one.claim).filter(|one| one.id != claim.claim.id);
        self.claims.expect_alone_in_its_set(&claim.claim, others)?;
        row.instance.options.moving.now = Some(claim.claim.id);
        let operation =
            self.journal.open_operation(OperationKind::Detach, id, |tx| row.update_settings(tx))?;
        let notes = self.finish_detach(&operation, patience, self.journal.worker_wait())?;
        Ok((self.find(&id.to_string())?, notes))
    }

    /// The claim of the device that a person names.
    fn claim_named(&self, row: &StoredInstance, device: &str) -> Result<StoredClaim, Refusal> {
        let id = row.instance.id;
        let claims = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        let registered = crate::registrations::find(&self.store, device).ok();
        let address = device.parse().ok();
        let uuid = device.parse().ok();
        let is_meant = |claim: &&StoredClaim| {
            let mut partitions =
                claim.claim.parts.iter().filter_map(|part| part.partition.as_ref());
            registered.as_ref().is_some_and(|one| claim.device == Some(one.id))
                || address.is_some_and(|address| {
                    claim.claim.holds(address) || claim.claim.head() == Some(address)
                })
                || uuid == Some(claim.claim.id)
                || (uuid.is_some() && partitions.any(|partition| partition.mdev() == uuid))
        };
        let mut found: Vec<StoredClaim> = claims.iter().filter(is_meant).cloned().collect();
        let name = &row.instance.name;
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (Some(_), false) => Err(Refusal::new(
                Code::Conflict,
                format!("several devices of {name:?} are {device:?}"),
                format!("give the uuid of one: `handover instance show {name}` shows them"),
            )),
            (None, _) => Err(Refusal::new(
                Code::NotFound,
                format!("the instance {name:?} has no device {device:?}"),
                format!("`handover instance show {name}` shows its devices"),
            )),
        }
    }

    /// Finishes an interrupted detach. The guest may not have been asked yet.
    pub(crate) fn recover_detach(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        if self.moving_part(operation)?.is_some() {
            return self.recover_unplug(operation);
        }
        self.finish_detach(operation, RECOVERY, patience)
    }

    /// Takes the device out of the guest, which may take as long as `guest`, and returns it to the host.
    fn finish_detach(
        &self,
        operation: &OpenOperation,
        guest: Duration,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let Some((mut row, mut claim)) = self.moving(operation)? else {
            self.journal.close_operation(operation, Outcome::Done, None, |_| Ok(()))?;
            return Ok(Vec::new());
        };
        let id = claim.claim.id;
        match self.take_out(operation, &row, &claim, guest) {
            Whereabouts::Out => {}
            Whereabouts::Kept(why) => {
                row.instance.options.moving.wait_for(id);
                return Err(self.keep_waiting(operation, row, &claim, Outcome::Undone, &why)?);
            }
            Whereabouts::Unknown(why) => {
                let refusal = unknown(&row.instance.name, &why);
                row.instance.options.moving.wait_for(id);
                self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
                self.close_unknown(operation, &mut row, &refusal)?;
                return Err(refusal);
            }
        }
        let outcome = self.claims.restore_claim(operation, &mut claim, None, patience)?;
        let failed = outcome.refusal();
        let ended = if failed.is_some() { Outcome::Failed } else { Outcome::Done };
        let notes = failed.as_ref().map(|refusal| refusal.message.clone());
        let notes = notes.or_else(|| (!outcome.notes.is_empty()).then(|| outcome.notes.join("; ")));
        self.forget_claim(&mut row, id)?;
        self.forget_set_without(&mut row, id)?;
        self.journal.close_operation(operation, ended, notes.as_deref(), |tx| {
            StoredClaim::release(tx, id)?;
            row.update_settings(tx)
        })?;
        failed.map_or(Ok(outcome.notes), Err)
    }

    /// Records that the guest still has a device, which `row` says. Returns the refusal.
    pub(super) fn keep_waiting(
        &self,
        operation: &OpenOperation,
        row: StoredInstance,
        claim: &StoredClaim,
        outcome: Outcome,
        why: &str,
    ) -> Result<Refusal, Refusal> {
        let device = name_of(claim);
        let name = row.instance.name.clone();
        let message = format!("the guest of {name:?} still has {device}: {why}");
        self.journal
            .close_operation(operation, outcome, Some(&message), |tx| row.update_settings(tx))?;
        Ok(Refusal::new(
            Code::GuestKeepsDevice,
            message,
            format!(
                "end what uses the device in the guest; it is given back as soon as the guest lets go of it, or its machine \
                 ends (`handover instance stop {name}`); to ask again: `handover instance detach {name} {device}`"
            ),
        ))
    }
}
