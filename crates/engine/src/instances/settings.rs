//! Changing an instance after its creation.

use model::{Autostart, Claim, Mac, Refusal};
use uuid::Uuid;

use super::create::gpu;
use super::networks::UNCHOSEN;
use super::read::wish_of;
use super::{Instances, wrong_state};
use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, StoredClaim, StoredImage, StoredInstance};
use crate::{ChangeInstance, ChangeMachine, DeviceWish, Instance, InstanceState, NetworkWish};

impl Instances {
    /// Changes an instance. Its machine changes while it is stopped; when it is started, at any time.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it is not stopped; those of the values in a creation. Nothing is changed then.
    pub fn change(&self, key: &str, change: ChangeInstance) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        let is_stopped =
            matches!(row.instance.state, InstanceState::Stopped | InstanceState::Shutdown);
        let ChangeInstance { machine, restart, autostart } = change;
        let changes_machine = machine != ChangeMachine::default();
        if changes_machine && !is_stopped {
            let stop = format!(
                "stop it first: `handover instance stop {}`; what starts it can be changed at any time",
                row.instance.name
            );
            return Err(wrong_state(&row, "given another machine", stop));
        }
        let life = &mut row.instance.options.life;
        let changes_restart = restart.is_some();
        if let Some(change) = restart {
            life.restart = change.apply(&life.restart);
        }
        if let Some(change) = autostart {
            life.autostart = self.autostart_from_next_boot(change.apply(life.autostart.take()));
        }
        if changes_machine {
            self.change_machine(&mut row, machine)?;
        } else {
            self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        }
        if changes_restart {
            self.forget_restarts(id);
            if row.instance.state == InstanceState::Shutdown {
                self.restart_later(&row, None);
            }
        }
        self.journal.notify();
        Ok(row.instance)
    }

    /// Changes the machine of a stopped instance, and records the instance.
    fn change_machine(
        &self,
        row: &mut StoredInstance,
        change: ChangeMachine,
    ) -> Result<(), Refusal> {
        let ChangeMachine { vcpus, memory, firmware, tpm, huge_pages, placement, network, devices } =
            change;
        let instance = &mut row.instance;
        if vcpus.is_some_and(|vcpus| vcpus != instance.vcpus) {
            // It was for the earlier number.
            instance.options.cpu.topology = None;
        }
        instance.vcpus = vcpus.unwrap_or(instance.vcpus);
        instance.memory = memory.unwrap_or(instance.memory);
        if vcpus.is_some() || memory.is_some() {
            self.check_size(instance.vcpus, instance.memory)?;
        }
        let earlier = instance.options.firmware;
        instance.options.firmware = firmware.unwrap_or(earlier);
        instance.options.tpm = tpm.unwrap_or(instance.options.tpm);
        instance.options.huge_pages = huge_pages.unwrap_or(instance.options.huge_pages);
        instance.options.placement = placement.unwrap_or(instance.options.placement);
        if let Some(network) = network {
            self.change_network(instance, network)?;
        }
        if firmware.is_some() || tpm.is_some() {
            let image = self.store.read(|from| StoredImage::by_name(from, &instance.image))?;
            let has_kernel = image.is_some_and(|image| image.image.has_kernel);
            self.expect_firmware(instance, has_kernel && !instance.options.is_without_root)?;
        }
        let changed = devices.map(|devices| self.other_claims(instance, &devices)).transpose()?;
        if let Some(changed) = &changed {
            // Before a device is given back: nothing may be refused afterwards, unless it is taken meanwhile.
            self.reserve_network(&mut instance.clone())?;
            self.expect_devices(changed)?;
            changed.given_up.iter().try_for_each(|claim| self.claims.give_up(claim))?;
        }
        let _allocation = lock(&self.journal.allocation);
        self.reserve_network(instance)?;
        changed.as_ref().map_or(Ok(()), |changed| self.expect_devices(changed))?;
        if instance.options.firmware != earlier {
            // Another firmware has other variables. A guest that is started from its usual place needs none.
            let launcher = self.launcher(&instance.hypervisor)?;
            launcher
                .forget_firmware(instance.id)
                .map_err(|error| refusals::launch_failed(&error))?;
        }
        self.store.write(Durability::Power, |tx| {
            if let Some(ChangedClaims { claims, new, leaving, .. }) = &changed {
                leaving.iter().try_for_each(|id| StoredClaim::delete(tx, *id))?;
                for claim in claims {
                    if new.contains(&claim.claim.id) {
                        claim.insert(tx)?;
                    } else {
                        claim.update_position(tx)?;
                    }
                }
            }
            row.update_settings(tx)
        })
    }

    /// Gives an instance other network cards. Those that are in the place of an earlier one keep its hardware address, unless
    /// another is asked for.
    fn change_network(&self, instance: &mut Instance, network: NetworkWish) -> Result<(), Refusal> {
        let has_keys = instance.options.seed.as_ref().is_some_and(|seed| seed.host_key.is_some());
        let mut cards = self.cards(&instance.hypervisor, network, has_keys)?;
        let asked: Vec<Mac> = cards.iter().map(|card| card.mac).collect();
        for (card, earlier) in cards.iter_mut().zip(&instance.options.cards) {
            if card.mac == UNCHOSEN && !asked.contains(&earlier.mac) {
                card.mac = earlier.mac;
            }
        }
        instance.options.cards = cards;
        let launcher = self.launcher(&instance.hypervisor)?;
        launcher.check(&instance.options).map_err(|error| refusals::launch_failed(&error))
    }

    /// The claims of an instance that is to have these devices: those that it has already are kept.
    fn other_claims(
        &self,
        instance: &mut Instance,
        devices: &[DeviceWish],
    ) -> Result<ChangedClaims, Refusal> {
        let id = instance.id;
        let each = self.each_wish(devices)?;
        let mut others = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        let mut found: Vec<Option<StoredClaim>> = Vec::new();
        let mut missing = Vec::new();
        for wish in &each {
            let own = others.iter().position(|claim| wish_of(claim).as_ref() == Some(wish));
            found.push(own.map(|position| others.remove(position)));
            if own.is_none() {
                missing.push(wish.clone());
            }
        }
        let leaving: Vec<Uuid> = others.iter().map(|claim| claim.claim.id).collect();
        let wants = self.wanted_devices(&missing)?;
        let (chosen, _) = self.claims.choose_for_instance(id, &wants, &leaving)?;
        let new: Vec<Uuid> = chosen.iter().map(|claim| claim.claim.id).collect();
        let mut chosen = chosen.into_iter();
        let mut claims: Vec<StoredClaim> =
            found.into_iter().filter_map(|claim| claim.or_else(|| chosen.next())).collect();
        for (position, claim) in (0u32..).zip(&mut claims) {
            claim.position = position;
        }
        instance.devices = claims.iter().filter_map(|claim| claim.device).collect();
        instance.gpu = gpu(&claims);
        let is_there = |device| claims.iter().any(|claim| claim.claim.holds(device));
        instance.options.roms.retain(|rom| is_there(rom.device));
        Ok(ChangedClaims { claims, new, leaving, given_up: others })
    }

    /// Checks that the devices that an instance gets are free.
    fn expect_devices(&self, changed: &ChangedClaims) -> Result<(), Refusal> {
        let ChangedClaims { claims, new, leaving, .. } = changed;
        let all = claims.iter().map(|stored| &stored.claim);
        let new: Vec<&Claim> = all.filter(|claim| new.contains(&claim.id)).collect();
        new.iter().try_for_each(|claim| self.claims.expect_available(claim, leaving))?;
        self.claims.expect_room(&self.hardware.inventory()?, new)
    }

    /// An instance that starts with the host does so from the next start of the host on.
    pub(super) fn autostart_from_next_boot(
        &self,
        autostart: Option<Autostart>,
    ) -> Option<Autostart> {
        let boot_id = Some(self.journal.boot.clone());
        autostart.map(|autostart| Autostart { boot_id, ..autostart })
    }
}

/// The claims of an instance whose devices change.
struct ChangedClaims {
    /// All its claims, in the order in which the guest sees their devices.
    claims: Vec<StoredClaim>,
    /// Those that are new.
    new: Vec<Uuid>,
    /// Those that it has no longer.
    leaving: Vec<Uuid>,
    /// The same, as they are.
    given_up: Vec<StoredClaim>,
}
