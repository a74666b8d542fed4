//! What machines have of the host only while they run. Of its seat: the display by their claims, and USB devices as open nodes.
//! And the set of their GPUs in NVIDIA's Fabric Manager.

use model::{Address, Code, MOST_USB, Refusal, RestartUnits, Seat, Step, UsbDevice, UsbWish};
use uuid::Uuid;

use super::{Instances, is_stopped};
use crate::lock::lock;
use crate::store::{Durability, OpenOperation, Recorded, StoredClaim, StoredInstance};

/// Checks what a machine is to get of the seat. A USB device that is given twice is one.
pub(super) fn checked(mut seat: Seat) -> Result<Seat, Refusal> {
    let mut usb: Vec<UsbWish> = Vec::new();
    for wish in seat.usb {
        if !usb.contains(&wish) {
            usb.push(wish);
        }
    }
    if usb.len() > MOST_USB {
        return Err(Refusal::new(
            Code::InvalidRequest,
            format!("a machine cannot have {} USB devices of the host", usb.len()),
            format!("give {MOST_USB} at most"),
        ));
    }
    seat.usb = usb;
    Ok(seat)
}

impl Instances {
    /// Finds the USB devices that a machine gets now, and records them before it has them.
    pub(super) fn take_usb(&self, row: &mut StoredInstance) -> Result<(), Refusal> {
        let seat = &row.instance.options.seat;
        if seat.usb.is_empty() && !seat.input && seat.given.is_empty() {
            return Ok(());
        }
        // Two machines that start at the same time must not find the same device.
        let _allocation = lock(&self.journal.allocation);
        let own = row.instance.id;
        let others = self.store.read(StoredInstance::all)?.into_iter();
        let others = others.filter(|other| other.instance.id != own && !is_stopped(other));
        let taken: Vec<(String, String)> = others
            .flat_map(|other| {
                let name = other.instance.name;
                let given = other.instance.options.seat.given.into_iter();
                given.map(move |device| (device.name, name.clone()))
            })
            .collect();
        let given = seat.find(&self.hardware.host.usb_devices(), &taken)?;
        row.instance.options.seat.given = given;
        self.store.write(Durability::Process, |tx| row.update_settings(tx))
    }

    /// Gives the GPU back that a fabric set was activated with for a machine that has ended: with it, the set is deactivated.
    pub(super) fn settle_set(&self, row: &mut StoredInstance) -> Result<(), Refusal> {
        if row.instance.options.fabric_set.is_none() {
            return Ok(());
        }
        let id = row.instance.id;
        for claim in self.store.read(|from| StoredClaim::of_instance(from, id))? {
            if claim.claim.state == model::ClaimState::Prepared
                && self.claims.has_active_set(&claim.claim)?
            {
                let notes = self.claims.give_up(&claim)?;
                notes.iter().for_each(|note| tracing::warn!(machine = %id, "{note}"));
            }
        }
        row.instance.options.fabric_set = None;
        self.store.write(Durability::Power, |tx| row.update_settings(tx))
    }

    /// Notes that a machine has no fabric set without this claim, if no other one has GPUs of it. The record is not written yet.
    pub(super) fn forget_set_without(
        &self,
        row: &mut StoredInstance,
        claim: Uuid,
    ) -> Result<(), Refusal> {
        if row.instance.options.fabric_set.is_none() {
            return Ok(());
        }
        let others = self.store.read(|from| StoredClaim::of_instance(from, row.instance.id))?;
        let others = others.iter().map(|one| &one.claim).filter(|one| one.id != claim);
        if !self.claims.may_have_a_set(others)? {
            row.instance.options.fabric_set = None;
        }
        Ok(())
    }

    /// Gives back the USB devices of a machine that has ended: the kernel leaves those of a killed VMM without a driver.
    pub(super) fn give_back_usb(&self, row: &mut StoredInstance) -> Result<(), Refusal> {
        if row.instance.options.seat.given.is_empty() {
            return Ok(());
        }
        let given: Vec<UsbDevice> = std::mem::take(&mut row.instance.options.seat.given);
        given.iter().for_each(|device| self.hardware.host.reattach_usb(device));
        self.store.write(Durability::Power, |tx| row.update_settings(tx))
    }

    /// Gives back what a machine that has ended had of the seat: the display with its claims, and USB devices.
    pub(super) fn settle_seat(&self, row: &mut StoredInstance) -> Result<(), Refusal> {
        self.give_back_usb(row)?;
        if !row.instance.options.seat.take_display {
            return Ok(());
        }
        let id = row.instance.id;
        for claim in self.store.read(|from| StoredClaim::of_instance(from, id))? {
            if claim.claim.state != model::ClaimState::Prepared {
                continue;
            }
            match self.claims.give_up(&claim) {
                Ok(notes) => notes.iter().for_each(|note| tracing::warn!(machine = %id, "{note}")),
                // It stays for the next time.
                Err(refusal) => {
                    tracing::warn!(machine = %id, "the display is not given back yet: {}", refusal.message);
                }
            }
        }
        Ok(())
    }

    /// Starts the services again that were stopped for a machine, now that it runs. The display manager stays stopped: it has
    /// nothing to draw on. One that does not start is left for the end of the claim.
    pub(super) fn start_services(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        claims: &[StoredClaim],
    ) -> Result<(), Refusal> {
        if row.instance.options.seat.restart_units == RestartUnits::AtEnd {
            return Ok(());
        }
        for claim in claims {
            let (id, boot) = (claim.claim.id, &self.journal.boot);
            let functions: Vec<Address> = claim.claim.taken().collect();
            let manager = self.hardware.host.display(&functions).ok().and_then(|one| one.manager);
            let recorded = self.store.read(|from| Recorded::of_claim(from, id, None, boot))?;
            for step in recorded.iter().rev().filter_map(Recorded::step) {
                let Step::SetUnit { unit, to: false, .. } = step else { continue };
                if Some(unit) == manager.as_ref() {
                    continue;
                }
                let Some(start) = step.inverse() else { continue };
                if let Err(error) = self.journal.perform(operation, id, &start) {
                    tracing::warn!(machine = %row.instance.id, "cannot {}: {error}", start.describe());
                }
            }
        }
        Ok(())
    }
}

/// Whether nothing is to be given back when the machine has ended.
pub(super) fn is_settled(row: &StoredInstance) -> bool {
    let seat = &row.instance.options.seat;
    !seat.take_display && seat.given.is_empty() && row.instance.options.fabric_set.is_none()
}
