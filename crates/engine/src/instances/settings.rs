//! Changing an instance after its creation.

use model::choose::{Want, WantKind};
use model::{Autostart, Claim, Mac, Refusal};
use rusqlite::Transaction;
use uuid::Uuid;

use super::create::{arranged, gpu};
use super::first_boot::{self, Mounts};
use super::guest_buses::expect_own_buses;
use super::networks::UNCHOSEN;
use super::read::wish_of;
use super::{Instances, container, screen, seat, wrong_state};
use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, StoredClaim, StoredImage, StoredInstance};
use crate::{
    ChangeInstance, ChangeMachine, Changed, DeviceWish, FirstBoot, Instance, InstanceState,
    NetworkWish,
};

impl Instances {
    /// Changes an instance. Its machine changes while it is stopped; when it is started, at any time.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it is not stopped; those of the values in a creation. Nothing is changed then.
    pub fn change(&self, key: &str, change: ChangeInstance) -> Result<Changed, Refusal> {
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
                "stop it first: `handover instance stop {}`; only --restart and --autostart can be changed at any time",
                row.instance.name
            );
            return Err(wrong_state(&row, "changed", stop));
        }
        let life = &mut row.instance.options.life;
        let changes_restart = restart.is_some();
        if let Some(change) = restart {
            life.restart = change.apply(&life.restart);
        }
        if let Some(change) = autostart {
            life.autostart = self.autostart_from_next_boot(change.apply(life.autostart.take()));
        }
        let mut notes = Vec::new();
        if changes_machine {
            // What made an earlier start fail may be mended by it.
            row.instance.state_error = None;
            notes = self.change_machine(&mut row, machine)?;
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
        Ok(Changed { instance: row.instance, notes })
    }

    /// Changes the machine of a stopped instance, and records the instance. Returns notes.
    fn change_machine(
        &self,
        row: &mut StoredInstance,
        change: ChangeMachine,
    ) -> Result<Vec<String>, Refusal> {
        let instance = &mut row.instance;
        self.change_size(instance, &change)?;
        change_hostname(instance, change.hostname.as_deref())?;
        self.change_firmware(instance, &change)?;
        instance.options.seat = seat::checked(change.seat.apply(&instance.options.seat))?;
        if let Some(network) = change.network {
            self.change_network(instance, network)?;
        }
        let devices = change.devices.as_deref();
        let changed = devices.map(|devices| self.other_claims(instance, devices)).transpose()?;
        let has_other_screen = change.display.is_some();
        let mut notes = Vec::new();
        if let Some(changed) = &changed {
            // Before a device is given back: nothing may be refused afterwards, unless it is taken meanwhile.
            self.reserve_links(&mut instance.clone(), has_other_screen)?;
            self.expect_devices(changed)?;
            // Those that it keeps and gets must be one set of GPUs.
            self.claims.set_step(changed.claims.iter().map(|stored| &stored.claim))?;
            for claim in &changed.given_up {
                notes.extend(self.claims.give_up(claim)?);
            }
        }
        let _allocation = lock(&self.journal.allocation);
        self.reserve_links(instance, has_other_screen)?;
        changed.as_ref().map_or(Ok(()), |changed| self.expect_devices(changed))?;
        self.store.write(Durability::Power, |tx| {
            changed.as_ref().map_or(Ok(()), |changed| changed.record(tx))?;
            row.update_settings(tx)
        })?;
        Ok(notes)
    }

    /// Reserves what a changed machine needs of the host.
    fn reserve_links(
        &self,
        instance: &mut Instance,
        has_other_screen: bool,
    ) -> Result<(), Refusal> {
        self.reserve_network(instance)?;
        if has_other_screen { self.reserve_screen(instance) } else { Ok(()) }
    }

    /// Changes processors and memory.
    fn change_size(&self, instance: &mut Instance, change: &ChangeMachine) -> Result<(), Refusal> {
        let ChangeMachine { vcpus, topology, hide_kvm, memory, .. } = change;
        let cpu = &mut instance.options.cpu;
        cpu.hide_kvm = hide_kvm.unwrap_or(cpu.hide_kvm);
        if topology.is_some() || vcpus.is_some_and(|vcpus| vcpus != instance.vcpus) {
            // The earlier one was for the earlier number.
            cpu.topology = *topology;
            instance.vcpus = arranged(*vcpus, *topology)?.unwrap_or(instance.vcpus);
        }
        instance.memory = memory.unwrap_or(instance.memory);
        if vcpus.is_some() || topology.is_some() || memory.is_some() {
            self.check_size(instance.vcpus, instance.memory)?;
        }
        Ok(())
    }

    /// Changes firmware, TPM, huge pages and screen, and checks that this host has what they need.
    fn change_firmware(
        &self,
        instance: &mut Instance,
        change: &ChangeMachine,
    ) -> Result<(), Refusal> {
        let ChangeMachine { firmware, tpm, huge_pages, placement, display, .. } = change;
        let options = &mut instance.options;
        let earlier = options.firmware;
        options.firmware = firmware.unwrap_or(earlier);
        if options.firmware != earlier {
            // Those of the first one, if it was changed several times.
            let has = options.variables_of.unwrap_or(earlier);
            options.variables_of = Some(has).filter(|has| *has != options.firmware);
        }
        options.tpm = tpm.unwrap_or(options.tpm);
        options.huge_pages = huge_pages.unwrap_or(options.huge_pages);
        if let Some(placement) = placement {
            options.placement = *placement;
            options.mirrors_nodes = true;
        }
        if let Some(wanted) = display {
            let (display, password) = wanted.clone().unzip();
            options.display_password = screen::checked(display, password.flatten())?;
            options.display = display;
        }
        if firmware.is_some() || tpm.is_some() || display.is_some() {
            let image = self.store.read(|from| StoredImage::by_name(from, &instance.image))?;
            let has_kernel = image.is_some_and(|image| image.image.has_kernel);
            let is_container = instance.options.container.is_some();
            let has_kernel = is_container || (has_kernel && !instance.options.is_without_root);
            if is_container {
                container::expect_bios(instance.options.firmware)?;
            }
            self.expect_firmware(instance, has_kernel)?;
        }
        Ok(())
    }

    /// Removes the variables of an earlier firmware before a machine is started. Another firmware has other variables; a guest that is
    /// started from its usual place needs none. The new firmware is recorded before: a crash in between loses nothing.
    pub(super) fn forget_variables(&self, row: &mut StoredInstance) -> Result<(), Refusal> {
        if row.instance.options.variables_of.is_none() {
            return Ok(());
        }
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let forgotten = launcher.forget_firmware(row.instance.id);
        forgotten.map_err(|error| refusals::launch_failed(&error))?;
        row.instance.options.variables_of = None;
        self.store.write(Durability::Power, |tx| row.update_settings(tx))
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
        let wants = together(self.wanted_devices(&missing)?);
        let take_display = instance.options.seat.take_display;
        let (chosen, _) = self.claims.choose_for_instance(id, &wants, &leaving, take_display)?;
        let new: Vec<Uuid> = chosen.iter().map(|claim| claim.claim.id).collect();
        let mut chosen = chosen.into_iter();
        let mut claims: Vec<StoredClaim> =
            found.into_iter().filter_map(|claim| claim.or_else(|| chosen.next())).collect();
        expect_own_buses(claims.iter())?;
        let taken: Vec<u32> = instance.options.part_ports().collect();
        let free = (0u32..).filter(|port| !taken.contains(port));
        for (position, claim) in free.zip(&mut claims) {
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
        self.claims.expect_room_now(&new)
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

/// Equal wishes that follow one another as one: several devices of a kind are of one model, and a refusal counts them.
fn together(wants: Vec<Want>) -> Vec<Want> {
    let mut all: Vec<Want> = Vec::new();
    for want in wants {
        match all.last_mut() {
            Some(last)
                if last.kind == want.kind
                    && last.guest.is_none()
                    && want.guest.is_none()
                    && !matches!(want.kind, WantKind::Device(_)) =>
            {
                last.count = last.count.saturating_add(want.count);
            }
            _ => all.push(want),
        }
    }
    all
}

/// Changes the host name in the seed, which an instance without one gets.
fn change_hostname(instance: &mut Instance, hostname: Option<&str>) -> Result<(), Refusal> {
    let Some(hostname) = hostname else { return Ok(()) };
    if let Some(run) = &mut instance.options.container {
        first_boot::check_hostname(hostname)?;
        run.hostname = Some(hostname.to_owned());
        return Ok(());
    }
    if let Some(seed) = &mut instance.options.seed {
        return first_boot::rename(seed, hostname);
    }
    let wanted = FirstBoot { hostname: Some(hostname.to_owned()), ..FirstBoot::default() };
    instance.options.seed = first_boot::seed(instance, &wanted, &Mounts::default())?;
    Ok(())
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

impl ChangedClaims {
    fn record(&self, to: &Transaction<'_>) -> rusqlite::Result<()> {
        self.leaving.iter().try_for_each(|id| StoredClaim::delete(to, *id))?;
        for claim in &self.claims {
            if self.new.contains(&claim.claim.id) {
                claim.insert(to)?;
            } else {
                claim.update_position(to)?;
            }
        }
        Ok(())
    }
}
