//! Devices that come to running machines and leave them, and guests that do not let go of one, or eject one by themselves.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Address, GuestBus, GuestSlot, GuestSource, LaunchError, MachineSpec, PartPlace, PartPlug, Plug,
    PluggedFunction, Unplugged,
};
use uuid::Uuid;

use super::SimLauncher;

/// The ports for devices of a running machine.
pub(super) struct Ports {
    /// How many there are.
    count: u32,
    slots: Vec<GuestSlot>,
    /// The devices that the guest was asked to let go of.
    asked: Vec<GuestSlot>,
    /// The disks and network cards behind them, and those that the guest was asked to let go of.
    parts: Vec<PartPlace>,
    asked_parts: Vec<PartPlace>,
    /// The ports of which the VMM has the file or interface open.
    open: BTreeSet<u32>,
}

impl Ports {
    /// Those of a machine that starts.
    pub(super) fn of(spec: &MachineSpec) -> Self {
        let parts = parts_of(spec);
        let ports = spec.slots.iter().map(|slot| slot.port);
        let ports = ports.chain(parts.iter().map(|part| part.port));
        let last = ports.map(|port| port + 1).max().unwrap_or(0);
        let taken = u32::try_from(spec.slots.len()).unwrap_or(u32::MAX);
        let count = last.max(taken.saturating_add(spec.spare.count));
        let open = parts.iter().map(|part| part.port).collect();
        let (asked, asked_parts) = (Vec::new(), Vec::new());
        Self { count, slots: spec.slots.clone(), asked, parts, asked_parts, open }
    }

    /// The guest has let go of a disk or network card. The VMM still has what was behind it.
    fn part_leaves(&mut self, place: PartPlace) {
        self.parts.retain(|one| *one != place);
        self.asked_parts.retain(|one| *one != place);
    }
}

impl SimLauncher {
    /// Lets a guest not let go of devices, or let go of what it was asked for.
    pub fn set_stubborn(&self, id: Uuid, stubborn: bool) {
        if stubborn {
            self.inside().stubborn.insert(id);
        } else {
            self.inside().stubborn.remove(&id);
            self.reset(id);
        }
    }

    /// The VMM does not answer the next requests to take a device out in time.
    pub fn set_late_answers(&self, count: u32) {
        self.inside().late_answers = count;
    }

    /// The guest is reset: what it was asked for has left then.
    pub fn reset(&self, id: Uuid) {
        let asked = self.inside().ports.get_mut(&id).map(|ports| std::mem::take(&mut ports.asked));
        for slot in asked.unwrap_or_default() {
            self.let_go(id, &slot);
        }
        if let Some(ports) = self.inside().ports.get_mut(&id) {
            for place in std::mem::take(&mut ports.asked_parts) {
                ports.part_leaves(place);
            }
        }
    }

    /// The guest ejects a disk or network card without a request.
    pub fn eject_part(&self, id: Uuid, place: PartPlace) {
        if let Some(ports) = self.inside().ports.get_mut(&id) {
            ports.part_leaves(place);
        }
    }

    /// The disks and network cards behind ports for devices that a running machine has, and the ports of which the VMM has the
    /// file or interface open.
    #[must_use]
    pub fn parts(&self, id: Uuid) -> (Vec<PartPlace>, BTreeSet<u32>) {
        let inside = self.inside();
        let ports = inside.ports.get(&id);
        ports.map(|ports| (ports.parts.clone(), ports.open.clone())).unwrap_or_default()
    }

    /// The guest ejects a device without a request. Returns whether it has it.
    pub fn eject(&self, id: Uuid, address: Address) -> bool {
        let slot = self.inside().ports.get(&id).and_then(|ports| {
            let mut slots = ports.slots.iter();
            slots.find(|slot| slot.has(GuestSource::Function(address))).cloned()
        });
        if let Some(slot) = &slot {
            self.let_go(id, slot);
        }
        slot.is_some()
    }

    /// Makes the next plug fail when the machine has taken so many functions.
    pub fn refuse_next_plug(&self, reason: &str, after: usize) {
        self.inside().plug_refusal = Some((reason.into(), after));
    }

    /// The functions of the host that a running machine has, by port.
    #[must_use]
    pub fn ports(&self, id: Uuid) -> BTreeMap<u32, Vec<Address>> {
        let inside = self.inside();
        let slots = inside.ports.get(&id).into_iter().flat_map(|ports| &ports.slots);
        slots.map(|slot| (slot.port, slot.addresses().collect())).collect()
    }

    /// A machine no longer has the functions of a slot, and closes their groups.
    fn let_go(&self, id: Uuid, slot: &GuestSlot) {
        if let Some(ports) = self.inside().ports.get_mut(&id) {
            ports.slots.retain(|one| !is_same(one, slot));
            ports.asked.retain(|one| !is_same(one, slot));
        }
        let mut host = self.host.inside();
        let kernel = &mut host.kernel;
        for function in &slot.functions {
            let group = match function.source {
                GuestSource::Function(address) => kernel.group_of(address),
                GuestSource::Mdev(uuid) => kernel.mdev_groups.get(&uuid).copied(),
            };
            if let Some(group) = group.filter(|group| kernel.users.get(group) == Some(&id)) {
                kernel.users.remove(&group);
            }
        }
    }
}

impl SimLauncher {
    pub(super) fn find_port(
        &self,
        id: Uuid,
        slot: &GuestSlot,
        taken: &[u32],
    ) -> Result<u32, LaunchError> {
        let inside = self.inside();
        inside.execution(id)?;
        let ports = inside.ports.get(&id);
        let is_free = |port: &u32| {
            !taken.contains(port)
                && slot.bus.is_none_or(|bus| u32::from(bus.number()) == port + 1)
                && ports.is_some_and(|ports| {
                    ports.slots.iter().all(|slot| slot.port != *port)
                        && ports.parts.iter().all(|part| part.port != *port)
                })
        };
        let free = (0..ports.map_or(0, |ports| ports.count)).find(is_free);
        free.ok_or_else(|| LaunchError::NoPort {
            reason: "the machine has no free port for a device".into(),
            remedy: "stop the instance first".into(),
        })
    }

    pub(super) fn plug_in(&self, plug: &Plug) -> Result<(), LaunchError> {
        self.inside().execution(plug.id)?;
        let uid = self.inside().uids.get(&plug.id).copied().unwrap_or_default();
        let refusal = self.inside().plug_refusal.take();
        let mut slot = plug.slot.clone();
        if let Some((_, taken)) = &refusal {
            slot.functions.truncate(*taken);
        }
        if let Err(reason) =
            self.open_groups(plug.id, uid, std::slice::from_ref(&slot), plug.access)
        {
            return Err(LaunchError::Plug { reason });
        }
        let mut inside = self.inside();
        if let Some(ports) = inside.ports.get_mut(&plug.id).filter(|_| !slot.functions.is_empty()) {
            ports.slots.push(slot);
        }
        refusal.map_or(Ok(()), |(reason, _)| Err(LaunchError::Plug { reason }))
    }

    pub(super) fn take_out(&self, id: Uuid, slot: &GuestSlot) -> Result<Unplugged, LaunchError> {
        let mut inside = self.inside();
        inside.execution(id)?;
        if inside.late_answers > 0 {
            inside.late_answers -= 1;
            return Err(LaunchError::Deadline {
                action: "let go of the device".into(),
                seconds: 1,
            });
        }
        let is_stubborn = inside.stubborn.contains(&id) || inside.paused.contains(&id);
        let Some(ports) = inside.ports.get_mut(&id) else { return Ok(Unplugged::Out) };
        if !ports.slots.iter().any(|one| is_same(one, slot)) {
            return Ok(Unplugged::Out);
        }
        if is_stubborn {
            ports.asked.push(slot.clone());
            return Ok(Unplugged::Kept("the guest did not let go of it".into()));
        }
        drop(inside);
        self.let_go(id, slot);
        Ok(Unplugged::Out)
    }

    pub(super) fn plug_in_part(&self, plug: &PartPlug) -> Result<(), LaunchError> {
        let mut inside = self.inside();
        inside.execution(plug.id)?;
        let refusal = inside.plug_refusal.take();
        let Some(ports) = inside.ports.get_mut(&plug.id) else { return Ok(()) };
        let refused = |reason: &str| Err(LaunchError::Plug { reason: reason.into() });
        let is_taken = ports.slots.iter().any(|slot| slot.port == plug.port)
            || ports.parts.iter().any(|part| part.port == plug.port);
        if is_taken || !ports.open.insert(plug.port) {
            return refused("the port is taken");
        }
        match refusal {
            // It has the file, and not yet the disk.
            Some((reason, 0)) => refused(&reason),
            Some((reason, _)) => {
                ports.parts.push(plug.place());
                refused(&reason)
            }
            None => {
                ports.parts.push(plug.place());
                Ok(())
            }
        }
    }

    pub(super) fn take_out_part(
        &self,
        id: Uuid,
        place: PartPlace,
    ) -> Result<Unplugged, LaunchError> {
        let mut inside = self.inside();
        inside.execution(id)?;
        let is_stubborn = inside.stubborn.contains(&id) || inside.paused.contains(&id);
        let Some(ports) = inside.ports.get_mut(&id) else { return Ok(Unplugged::Out) };
        if ports.parts.contains(&place) {
            if is_stubborn {
                ports.asked_parts.push(place);
                return Ok(Unplugged::Kept("the guest did not let go of it".into()));
            }
            ports.part_leaves(place);
        }
        ports.open.remove(&place.port);
        Ok(Unplugged::Out)
    }

    pub(super) fn list_parts(&self, id: Uuid) -> Result<Vec<PartPlace>, LaunchError> {
        let inside = self.inside();
        inside.execution(id)?;
        Ok(inside.ports.get(&id).map(|ports| ports.parts.clone()).unwrap_or_default())
    }

    pub(super) fn list_plugged(&self, id: Uuid) -> Result<Vec<PluggedFunction>, LaunchError> {
        let inside = self.inside();
        inside.execution(id)?;
        let slots = inside.ports.get(&id).into_iter().flat_map(|ports| &ports.slots);
        let functions = slots.flat_map(|slot| {
            slot.functions.iter().map(|function| PluggedFunction {
                source: function.source,
                guest: slot
                    .bus
                    .map(GuestBus::number)
                    .or_else(|| u8::try_from(slot.port + 1).ok())
                    .and_then(|bus| Address::new(0, bus, 0, function.function)),
            })
        });
        Ok(functions.collect())
    }
}

/// The disks and network cards of a machine that are behind ports for devices.
fn parts_of(spec: &MachineSpec) -> Vec<PartPlace> {
    let disks = spec.options.disks.iter().map(model::GuestDisk::key);
    let keys = disks.chain(spec.options.cards.iter().map(model::NetworkCard::key));
    keys.filter_map(|key| spec.options.place_of(&key)).collect()
}

/// Whether two slots have a host device in common.
fn is_same(one: &GuestSlot, other: &GuestSlot) -> bool {
    one.functions.iter().any(|function| other.has(function.source))
}
