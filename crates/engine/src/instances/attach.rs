//! Giving an instance a device, also while its machine runs. Each is an operation in the journal: if it is interrupted, the
//! device ends in the guest and is recorded so, or is back on its driver.

use std::time::Duration;

use model::choose::{Want, WantKind};
use model::{Address, Code, DeviceAccess, GuestSlot, LaunchError, Plug, Presence, Refusal};

use super::guest_buses::expect_own_buses;
use super::moving::{name_of, set_devices, slot_of};
use super::read::wish_of;
use super::whereabouts::Whereabouts;
use super::{Instances, unknown, wrong_state};
use crate::lock::lock;
use crate::refusals::{self, interrupted, with_failed_undo};
use crate::store::{Durability, OpenOperation, StoredClaim, StoredInstance};
use crate::{DeviceWish, Instance, InstanceState, MachineStep, OperationKind, Outcome};

/// How long a guest may take to let go of a device that was plugged and could not be recorded.
const UNDO: Duration = Duration::from_secs(10);

/// More than the ports that a machine can have for devices.
const MOST_PORTS: u32 = 256;

impl Instances {
    /// Gives an instance a device. A running machine gets it at once, another one at its next start. A device that the guest
    /// has ejected is plugged again.
    ///
    /// # Errors
    /// As those of devices in [`create`](Self::create); `insufficient_resources` if a running machine has no port for it;
    /// `step_failed` if the machine does not take it. Changes are rolled back then.
    pub fn attach_device(&self, key: &str, wish: &DeviceWish) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        let runs = match row.instance.state {
            InstanceState::Running | InstanceState::Paused => true,
            InstanceState::Stopped | InstanceState::Shutdown => false,
            _ => {
                let show =
                    format!("`handover instance show {}` shows its state", row.instance.name);
                return Err(wrong_state(&row, "given a device", show));
            }
        };
        self.settle_devices(&mut row)?;
        let claims = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        if let Some(own) = self.own(wish, &claims)? {
            let is_ejected = row.instance.options.moving.ejected.contains(&own.claim.id);
            if runs && is_ejected {
                return self.plug_in(row, own, &claims, false);
            }
            return Err(already_there(&row, &own));
        }
        let mut new = self.choose_one(&row, wish)?;
        expect_own_buses(claims.iter().chain([&new]))?;
        if runs {
            return self.plug_in(row, new, &claims, true);
        }
        let positions = claims.iter().map(|claim| claim.position);
        let taken: Vec<u32> = positions.chain(row.instance.options.part_ports()).collect();
        new.position = (0..).find(|port| !taken.contains(port)).unwrap_or_default();
        set_devices(&mut row.instance, claims.iter().chain([&new]));
        let _allocation = lock(&self.journal.allocation);
        self.expect_free(&new)?;
        self.store.write(Durability::Power, |tx| {
            new.insert(tx)?;
            row.update_settings(tx)
        })?;
        self.journal.notify();
        Ok(row.instance)
    }

    /// The instance's claim of what is wished for, if it has one.
    fn own(
        &self,
        wish: &DeviceWish,
        claims: &[StoredClaim],
    ) -> Result<Option<StoredClaim>, Refusal> {
        let each = self.each_wish(std::slice::from_ref(wish))?;
        let address: Option<Address> = match wish {
            DeviceWish::Wanted(Want { kind: WantKind::Device(text), .. })
            | DeviceWish::Registered(text) => text.parse().ok(),
            DeviceWish::Wanted(_) => None,
        };
        let is_meant = |claim: &&StoredClaim| {
            let same = claim.device.is_some() && wish_of(claim).as_ref() == each.first();
            let whole =
                claim.claim.parts.iter().any(|part| part.partition.is_none() || part.is_bound());
            same || address.is_some_and(|address| whole && claim.claim.holds(address))
        };
        Ok(claims.iter().find(is_meant).cloned())
    }

    /// A new claim of one device.
    fn choose_one(&self, row: &StoredInstance, wish: &DeviceWish) -> Result<StoredClaim, Refusal> {
        let wants = self.wanted_devices(std::slice::from_ref(wish))?;
        let (chosen, _) = self.claims.choose_for_instance(
            row.instance.id,
            &wants,
            &[],
            row.instance.options.seat.take_display,
        )?;
        let count = chosen.len();
        match <[StoredClaim; 1]>::try_from(chosen) {
            Ok([one]) => Ok(one),
            Err(_) => Err(Refusal::new(
                Code::InvalidRequest,
                format!("one device at a time can be attached, and {count} are asked for"),
                "attach them one after another",
            )),
        }
    }

    /// Checks under the allocation lock that a new claim's devices are still free.
    fn expect_free(&self, new: &StoredClaim) -> Result<(), Refusal> {
        self.claims.expect_available(&new.claim, &[])?;
        self.claims.expect_room_now(&[&new.claim])
    }

    /// A free port for a device: where the guest has several NUMA nodes, rather none that is on another one.
    fn free_port(
        &self,
        row: &StoredInstance,
        claim: &StoredClaim,
        taken: Vec<u32>,
        is_new: bool,
    ) -> Result<u32, Refusal> {
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let (id, slot) = (row.instance.id, slot_of(claim));
        // One that was ejected gets the port back that it had, and with it its address in the guest.
        let is_other = |port: &u32| *port != claim.position || taken.contains(port);
        let all_others: Vec<u32> = (0..MOST_PORTS).filter(is_other).collect();
        if !is_new && let Ok(own) = launcher.free_port(id, &slot, &all_others) {
            return Ok(own);
        }
        let refused = |error: LaunchError| refusals::launch_failed(&error);
        let placed = row.instance.options.placed.as_ref().filter(|placed| !placed.roots.is_empty());
        if let Some(placed) = placed {
            let inventory = self.devices_of(std::slice::from_ref(claim))?;
            let node = inventory.functions.values().next().and_then(|function| function.numa_node);
            let avoided: Vec<u32> =
                taken.iter().copied().chain(placed.ports_elsewhere(node)).collect();
            match launcher.free_port(id, &slot, &avoided) {
                Err(LaunchError::NoPort { .. }) => {}
                found => return found.map_err(refused),
            }
        }
        launcher.free_port(id, &slot, &taken).map_err(refused)
    }

    /// Prepares a device and plugs it into the running machine. Nothing is changed before there is a port for it.
    fn plug_in(
        &self,
        mut row: StoredInstance,
        mut claim: StoredClaim,
        others: &[StoredClaim],
        is_new: bool,
    ) -> Result<Instance, Refusal> {
        let id = row.instance.id;
        let taken: Vec<u32> = others
            .iter()
            .filter(|other| other.claim.id != claim.claim.id)
            .map(|other| other.position)
            .chain(row.instance.options.part_ports())
            .collect();
        claim.position = self.free_port(&row, &claim, taken, is_new)?;
        let with_new = others.iter().chain(is_new.then_some(&claim));
        set_devices(&mut row.instance, with_new);
        row.instance.options.moving.now = Some(claim.claim.id);
        let operation = {
            let _allocation = lock(&self.journal.allocation);
            if is_new {
                self.expect_free(&claim)?;
            }
            self.journal.open_operation(OperationKind::Attach, id, |tx| {
                if is_new {
                    claim.insert(tx)?
                } else {
                    claim.update_position(tx)?
                }
                row.update_settings(tx)
            })?
        };
        let others: Vec<StoredClaim> = others
            .iter()
            .filter(|other| {
                other.claim.id != claim.claim.id
                    && !row.instance.options.moving.ejected.contains(&other.claim.id)
            })
            .cloned()
            .collect();
        let plugged = self.prepare_and_plug(&operation, &mut row, &mut claim, &others);
        match plugged.and_then(|()| self.record_arrival(&operation, &mut row)) {
            Ok(()) => Ok(row.instance),
            Err(cause) => {
                self.undo_attach(&operation, &cause, UNDO, self.journal.worker_wait())
                    .map_err(|undo| with_failed_undo(&cause, &undo))?;
                Err(cause)
            }
        }
    }

    fn prepare_and_plug(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        claim: &mut StoredClaim,
        others: &[StoredClaim],
    ) -> Result<(), Refusal> {
        // As those that it has. Machines that an earlier version started have opened groups.
        let known = row.instance.options.device_access;
        let known = known.or_else(|| (!others.is_empty()).then_some(DeviceAccess::Groups));
        let defers = match known {
            Some(access) => access == DeviceAccess::Descriptors,
            None => self.devices_of(std::slice::from_ref(claim))?.vfio.iommufd,
        };
        self.prepare_claims(operation, row, std::slice::from_mut(claim), defers)?;
        let all = others.iter().map(|one| &one.claim).chain([&claim.claim]);
        if let Some(set) = self.claims.activate_set(operation, all)? {
            row.instance.options.fabric_set = Some(set);
            self.store.write(Durability::Process, |tx| row.update_settings(tx))?;
        }
        if known.is_none() {
            let id = row.instance.id;
            self.give_access(operation, row, std::slice::from_ref(claim), defers, Some(id))?;
        }
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let plug = Plug {
            id: row.instance.id,
            slot: slot_of(claim),
            roms: row.instance.options.roms.clone(),
            memory: row.instance.memory,
            others: others.iter().map(slot_of).collect(),
            access: known.or(row.instance.options.device_access).unwrap_or_default(),
        };
        let step = MachineStep::Plug { claim: claim.claim.id };
        Ok(self.journal.machine(operation, step, || launcher.plug(&plug))?)
    }

    /// Records that the device is in the machine.
    fn record_arrival(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
    ) -> Result<(), Refusal> {
        if let Some(claim) = row.instance.options.moving.now {
            row.instance.options.moving.forget(claim);
        }
        self.journal.close_operation(operation, Outcome::Done, None, |tx| row.update_settings(tx))
    }

    /// Ends an attach that was interrupted: a device that is in the machine stays there, another one goes back. Returns
    /// whether it is in the machine.
    pub(crate) fn recover_attach(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> (bool, Result<Vec<String>, Refusal>) {
        match self.moving_part(operation) {
            Ok(Some((row, key))) => return self.recover_plug(operation, row, &key),
            Ok(None) => {}
            Err(refusal) => return (false, Err(refusal)),
        }
        match self.finish_arrived(operation) {
            Ok(true) => (true, Ok(Vec::new())),
            Ok(false) => {
                let cause = interrupted(OperationKind::Attach);
                (false, self.undo_attach(operation, &cause, UNDO, patience))
            }
            Err(refusal) => (false, Err(refusal)),
        }
    }

    fn finish_arrived(&self, operation: &OpenOperation) -> Result<bool, Refusal> {
        let Some((mut row, claim)) = self.moving(operation)? else { return Ok(false) };
        let launcher = self.launcher(&row.instance.hypervisor)?;
        if !matches!(launcher.find(row.instance.id), Presence::Running(_)) {
            return Ok(false);
        }
        let Ok(Some(there)) = launcher.plugged(row.instance.id) else { return Ok(false) };
        let slot: GuestSlot = slot_of(&claim);
        let is_there = |source| there.iter().any(|one| one.source == source);
        if !slot.functions.iter().all(|function| is_there(function.source)) {
            return Ok(false);
        }
        self.record_arrival(operation, &mut row).map(|()| true)
    }

    /// Rolls back an attach that failed or was interrupted: the device goes back to the host. What the guest keeps stays the
    /// instance's until it lets go.
    fn undo_attach(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        guest: Duration,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let Some((mut row, mut claim)) = self.moving(operation)? else {
            let message = Some(cause.message.as_str());
            self.journal.close_operation(operation, Outcome::Undone, message, |_| Ok(()))?;
            return Ok(Vec::new());
        };
        let id = claim.claim.id;
        match self.take_out(operation, &row, &claim, guest) {
            Whereabouts::Out => {}
            Whereabouts::Kept(why) => {
                row.instance.options.moving.wait_for_unplugged(id);
                let kept = self.keep_waiting(operation, row, &claim, Outcome::Failed, &why)?;
                return Err(kept);
            }
            Whereabouts::Unknown(why) => {
                let refusal = unknown(&row.instance.name, &why);
                row.instance.options.moving.wait_for_unplugged(id);
                self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
                self.close_unknown(operation, &mut row, &refusal)?;
                return Err(refusal);
            }
        }
        let outcome = self.claims.restore_claim(operation, &mut claim, None, patience)?;
        self.forget_set_without(&mut row, id)?;
        let is_ejected = row.instance.options.moving.ejected.contains(&id);
        row.instance.options.moving.now = None;
        if !is_ejected {
            self.forget_claim(&mut row, id)?;
        }
        self.claims.close_undone(operation, cause, outcome, |tx| {
            if !is_ejected {
                StoredClaim::release(tx, id)?;
            }
            row.update_settings(tx)
        })
    }
}

/// The refusal of a device that the instance has.
fn already_there(row: &StoredInstance, own: &StoredClaim) -> Refusal {
    let (name, device) = (&row.instance.name, name_of(own));
    if row.instance.options.moving.leaving.contains(&own.claim.id) {
        return Refusal::new(
            Code::Conflict,
            format!(
                "the guest of {name:?} was asked to let go of {device}, and has not done so yet"
            ),
            format!("attach it again when it is out; `handover instance show {name}` tells"),
        );
    }
    Refusal::new(
        Code::Conflict,
        format!("{name:?} already has {device}"),
        format!("`handover instance show {name}` shows its devices"),
    )
}
