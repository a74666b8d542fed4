//! Devices that come to a running machine or leave it: where one is, and what is completed later.

use std::thread;
use std::time::{Duration, Instant};

use model::{
    Address, ClaimState, GuestSlot, GuestSource, LaunchError, Launcher, Presence, Refusal,
    Unplugged,
};
use uuid::Uuid;

use super::create::gpu;
use super::guest_buses::guest_bus;
use super::pause::runs;
use super::whereabouts::Whereabouts;
use super::{Instances, is_stopped, seat};
use crate::store::{Durability, OpenOperation, StoredClaim, StoredInstance};
use crate::{Instance, MachineStep};

/// How long the kernel may take to close a device that the VMM no longer has.
const CLOSING: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(50);

impl Instances {
    /// The instance and the claim that an open operation attaches or detaches.
    pub(super) fn moving(
        &self,
        operation: &OpenOperation,
    ) -> Result<Option<(StoredInstance, StoredClaim)>, Refusal> {
        self.store.read(|from| {
            let Some(row) = StoredInstance::by_id(from, operation.subject)? else {
                return Ok(None);
            };
            let Some(claim) = row.instance.options.moving.now else { return Ok(None) };
            Ok(StoredClaim::by_id(from, claim)?.map(|claim| (row, claim)))
        })
    }

    /// Takes a device out of a machine: asks the guest, and waits for it. A device is out when the VMM says
    /// so and the kernel shows no user of it: the VMM's word alone is not trusted.
    pub(super) fn take_out(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        claim: &StoredClaim,
        patience: Duration,
    ) -> Whereabouts {
        let id = row.instance.id;
        let launcher = match self.launcher(&row.instance.hypervisor) {
            Ok(launcher) => launcher,
            Err(refusal) => return Whereabouts::Unknown(refusal.message),
        };
        match launcher.find(id) {
            Presence::Gone => return Whereabouts::Out,
            Presence::Unknown(why) => return Whereabouts::Unknown(why),
            Presence::Running(_) => {}
        }
        let slot = slot_of(claim);
        let step = MachineStep::Unplug { claim: claim.claim.id };
        let unplugged =
            self.journal.machine(operation, step, || self.unplug(&**launcher, id, &slot, patience));
        match (unplugged, launcher.find(id)) {
            (_, Presence::Gone) => Whereabouts::Out,
            (Ok(Unplugged::Out), _) => self.wait_until_closed(claim),
            (Ok(Unplugged::Kept(why)), _) => Whereabouts::Kept(why),
            (Err(error), _) => Whereabouts::Kept(error.to_string()),
        }
    }

    fn unplug(
        &self,
        launcher: &dyn Launcher,
        id: Uuid,
        slot: &GuestSlot,
        patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        self.ask_for(patience, id, |slice| launcher.unplug(id, slot, slice))
    }

    /// Waits until the kernel shows no user of a device.
    fn wait_until_closed(&self, claim: &StoredClaim) -> Whereabouts {
        let until = Instant::now() + CLOSING;
        loop {
            match self.claims.expect_unused(claim) {
                Ok(()) => return Whereabouts::Out,
                Err(refusal) if Instant::now() >= until => {
                    return Whereabouts::Kept(refusal.message);
                }
                Err(_) => thread::sleep(BETWEEN),
            }
        }
    }

    /// Completes what is left of devices that leave: those that the guest let go of meanwhile are given back, and all of them
    /// if the machine has ended. Notices what the guest has ejected without a request. The caller has the instance's turn, and
    /// `row` follows.
    ///
    /// # Errors
    /// `state_unusable`. A device that cannot be given back stays for the next time.
    pub(super) fn settle_devices(&self, row: &mut StoredInstance) -> Result<(), Refusal> {
        let id = row.instance.id;
        let is_over = is_stopped(row);
        let is_still = row.instance.options.moving.is_still() && seat::is_settled(row);
        if (!is_over && !runs(&row.instance)) || (is_over && is_still) {
            return Ok(());
        }
        self.settle_parts(row, is_over)?;
        let claims = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        let there = if is_over || claims.is_empty() { None } else { self.sources(row) };
        for claim in &claims {
            let is_leaving = row.instance.options.moving.leaving.contains(&claim.claim.id);
            let slot = slot_of(claim);
            let is_out = match &there {
                Some(there) => !there.iter().any(|source| slot.has(*source)),
                None => is_over,
            };
            let settled = match (is_out, is_leaving) {
                (true, true) if row.instance.options.moving.staying.contains(&claim.claim.id) => {
                    self.note_ejected(row, claim)
                }
                (true, true) => self.remove_claim(row, claim),
                (true, false) if !is_over => self.note_ejected(row, claim),
                _ => Ok(()),
            };
            if let Err(refusal) = settled {
                tracing::warn!(machine = %id, "{} is not given back yet: {}", name_of(claim), refusal.message);
            }
        }
        if is_over {
            if let Err(refusal) = self.settle_set(row) {
                tracing::warn!(machine = %id, "its fabric set is active still: {}", refusal.message);
            }
            self.settle_seat(row)?;
        }
        let moving = &mut row.instance.options.moving;
        if is_over && !moving.ejected.is_empty() {
            moving.ejected.clear();
            self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        }
        Ok(())
    }

    /// What a running machine has; `None` if that is unknown.
    fn sources(&self, row: &StoredInstance) -> Option<Vec<GuestSource>> {
        let launcher = self.launcher(&row.instance.hypervisor).ok()?;
        let there = launcher.plugged(row.instance.id).ok()??;
        Some(there.into_iter().map(|one| one.source).collect())
    }

    /// Gives a device back to the host that the guest has ejected. The instance keeps it, and gets it at its next start.
    fn note_ejected(&self, row: &mut StoredInstance, claim: &StoredClaim) -> Result<(), Refusal> {
        if row.instance.options.moving.ejected.contains(&claim.claim.id) {
            return Ok(());
        }
        let all = self.store.read(|from| StoredClaim::of_instance(from, row.instance.id))?;
        let others = all.iter().map(|one| &one.claim).filter(|one| one.id != claim.claim.id);
        // One of the GPUs of a set stays prepared: the set is active while the machine has the others.
        let is_alone = self.claims.expect_alone_in_its_set(&claim.claim, others).is_ok();
        if is_alone && claim.claim.state != ClaimState::Wedged {
            self.claims.give_up(claim)?;
            self.forget_set_without(row, claim.claim.id)?;
        }
        let moving = &mut row.instance.options.moving;
        tracing::warn!(machine = %row.instance.id, "the guest has ejected {}", name_of(claim));
        moving.note_ejected(claim.claim.id);
        self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        self.journal.notify();
        Ok(())
    }

    /// Gives a device back that no machine has, and takes it from the instance.
    pub(super) fn remove_claim(
        &self,
        row: &mut StoredInstance,
        claim: &StoredClaim,
    ) -> Result<(), Refusal> {
        self.claims.give_up(claim)?;
        let id = claim.claim.id;
        self.forget_set_without(row, id)?;
        self.forget_claim(row, id)?;
        self.store.write(Durability::Power, |tx| {
            StoredClaim::delete(tx, id)?;
            row.update_settings(tx)
        })?;
        self.journal.notify();
        Ok(())
    }

    /// Takes a claim out of the instance's record, which is not written yet.
    pub(super) fn forget_claim(
        &self,
        row: &mut StoredInstance,
        claim: Uuid,
    ) -> Result<(), Refusal> {
        let id = row.instance.id;
        let claims = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        set_devices(&mut row.instance, claims.iter().filter(|one| one.claim.id != claim));
        row.instance.options.moving.forget(claim);
        Ok(())
    }

    /// Looks after the devices of all running machines whose turn is free.
    ///
    /// # Errors
    /// `state_unusable`.
    pub(crate) fn look_after_devices(&self) -> Result<(), Refusal> {
        for row in self.store.read(StoredInstance::all)? {
            let id = row.instance.id;
            let is_still = row.instance.options.moving.is_still() && seat::is_settled(&row);
            if !runs(&row.instance) && is_still {
                continue;
            }
            let Some(_turn) = self.journal.turns.try_take(id) else { continue };
            if self.journal.is_left_open(id) {
                continue;
            }
            // It may have changed before we had the turn.
            let row = self.store.read(|from| StoredInstance::by_id(from, id))?;
            row.map_or(Ok(()), |mut row| self.settle_devices(&mut row))?;
        }
        Ok(())
    }

    /// The addresses that a running guest sees its devices at, as its VMM says.
    #[must_use]
    pub fn guest_addresses(&self, instance: &Instance) -> Vec<(GuestSource, Address)> {
        let launcher = self.launcher(&instance.hypervisor).ok().filter(|_| runs(instance));
        let there = launcher.and_then(|launcher| launcher.plugged(instance.id).ok()).flatten();
        let known = there.unwrap_or_default().into_iter();
        known.filter_map(|one| Some((one.source, one.guest?))).collect()
    }

    /// What happens with the devices of an instance, in words: the guest ejected one, or is still to let go of one.
    #[must_use]
    pub fn unsettled(&self, instance: &Instance) -> Option<String> {
        let moving = &instance.options.moving;
        let name = &instance.name;
        let device = |id: &Uuid| {
            let claim = self.store.read(|from| StoredClaim::by_id(from, *id)).ok().flatten();
            claim.as_ref().map_or_else(|| "a device".to_owned(), name_of)
        };
        let leaving = moving.leaving.iter().map(|id| {
            let device = device(id);
            format!("the guest was asked to let go of {device}, which is given back as soon as it does; `handover instance detach {name} {device}` asks again")
        });
        let ejected = moving.ejected.iter().map(|id| {
            let device = device(id);
            format!("the guest has ejected {device}, which is back on the host; `handover instance attach {name} {device}` plugs it again")
        });
        let parts = Self::unsettled_parts(instance);
        let all: Vec<String> = leaving.chain(ejected).chain(parts).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// The slot of an instance's claim in the guest.
pub(super) fn slot_of(claim: &StoredClaim) -> GuestSlot {
    let mut parts = claim.claim.parts.iter();
    let slot = parts.next().map(GuestSlot::for_part);
    let slot = slot.unwrap_or_else(|| GuestSlot::place([])).at(claim.position);
    GuestSlot { bus: guest_bus(claim), ..slot }
}

/// How a person names a claim's device: the uuid of a mediated device, or the address.
pub(super) fn name_of(claim: &StoredClaim) -> String {
    let mut partitions = claim.claim.parts.iter().filter_map(|part| part.partition.as_ref());
    let mdev = partitions.find_map(model::Partition::mdev).map(|uuid| uuid.to_string());
    let head = claim.claim.head().map(|head| head.to_string());
    mdev.or(head).unwrap_or_else(|| claim.claim.id.to_string())
}

/// Notes the devices of an instance in its record, by these claims.
pub(super) fn set_devices<'a>(
    instance: &mut Instance,
    claims: impl Iterator<Item = &'a StoredClaim>,
) {
    let claims: Vec<StoredClaim> = claims.cloned().collect();
    instance.devices = claims.iter().filter_map(|claim| claim.device).collect();
    instance.gpu = gpu(&claims);
    let is_there = |device| claims.iter().any(|claim| claim.claim.holds(device));
    instance.options.roms.retain(|rom| is_there(rom.device));
}
