//! Disks and network cards that come to a running machine and leave it. Each is an operation in the journal: if it is interrupted,
//! the part ends in the guest and is recorded so, or the machine does not have it, and what was behind it is closed.

use std::time::{Duration, Instant};

use model::{
    Code, GuestDisk, GuestSlot, LaunchError, Launcher, MachineOptions, NetworkCard, NewPart,
    PartKey, PartPlace, PartPlug, Presence, Refusal, Unplugged,
};
use rusqlite::Transaction;
use uuid::Uuid;

use super::whereabouts::{SLICE, Whereabouts};
use super::{Instances, unknown, wrong_state};
use crate::refusals::{self, interrupted, with_failed_undo};
use crate::store::{Durability, OpenOperation, StoredClaim, StoredInstance};
use crate::{Instance, InstanceState, MachineStep, OperationKind, Outcome, Volume};

/// How long a guest may take to let go of a part that was plugged and could not be recorded.
const UNDO: Duration = Duration::from_secs(10);
/// The same at recovery, which others wait for.
const RECOVERY: Duration = Duration::from_secs(2);

/// How long a guest may take to let go of a disk or network card if nothing else is asked for.
pub const USUAL: Duration = Duration::from_secs(30);

impl Instances {
    /// A free port of a running machine for a part.
    pub(super) fn port_for_part(&self, row: &StoredInstance) -> Result<u32, Refusal> {
        let id = row.instance.id;
        let claims = self.store.read(|from| StoredClaim::of_instance(from, id))?;
        let positions = claims.iter().map(|claim| claim.position);
        let taken: Vec<u32> = positions.chain(row.instance.options.part_ports()).collect();
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let free = launcher.free_port(id, &GuestSlot::place([]), &taken);
        free.map_err(|error| refusals::launch_failed(&error))
    }

    /// Begins to plug a part, which the instance in `row` has already: records both.
    pub(super) fn open_plug(
        &self,
        row: &mut StoredInstance,
        key: &PartKey,
    ) -> Result<OpenOperation, Refusal> {
        row.instance.options.moving.parts.now = Some(key.clone());
        let id = row.instance.id;
        self.journal.open_operation(OperationKind::Attach, id, |tx| row.update_settings(tx))
    }

    /// Plugs a part into a running machine. If that fails, the instance no longer has it.
    pub(super) fn plug_part(
        &self,
        operation: &OpenOperation,
        mut row: StoredInstance,
        key: &PartKey,
        part: NewPart,
    ) -> Result<Instance, Refusal> {
        let plugged = self.plug_and_record(operation, &mut row, key, part);
        match plugged {
            Ok(()) => Ok(row.instance),
            Err(cause) => {
                self.undo_plug(operation, &cause, UNDO)
                    .map_err(|undo| with_failed_undo(&cause, &undo))?;
                Err(cause)
            }
        }
    }

    fn plug_and_record(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        key: &PartKey,
        part: NewPart,
    ) -> Result<(), Refusal> {
        let launcher = self.launcher(&row.instance.hypervisor)?;
        if let Some(place) = row.instance.options.place_of(key) {
            let plug = PartPlug { id: row.instance.id, port: place.port, part };
            let step = MachineStep::PlugPart { place };
            self.journal.machine(operation, step, || launcher.plug_part(&plug))?;
        }
        self.record_part(operation, row, key)
    }

    /// Records that a part is in the machine.
    fn record_part(
        &self,
        operation: &OpenOperation,
        row: &mut StoredInstance,
        key: &PartKey,
    ) -> Result<(), Refusal> {
        row.instance.options.moving.parts.forget(key);
        self.journal.close_operation(operation, Outcome::Done, None, |tx| row.update_settings(tx))
    }

    /// The instance and the part that an open operation attaches or detaches.
    pub(super) fn moving_part(
        &self,
        operation: &OpenOperation,
    ) -> Result<Option<(StoredInstance, PartKey)>, Refusal> {
        let row = self.store.read(|from| StoredInstance::by_id(from, operation.subject))?;
        Ok(row.and_then(|row| {
            let key = row.instance.options.moving.parts.now.clone()?;
            Some((row, key))
        }))
    }

    /// Ends an interrupted attach of a part. Returns whether it is in the machine.
    pub(super) fn recover_plug(
        &self,
        operation: &OpenOperation,
        mut row: StoredInstance,
        key: &PartKey,
    ) -> (bool, Result<Vec<String>, Refusal>) {
        if self.has_part(&row, key) {
            return (true, self.record_part(operation, &mut row, key).map(|()| Vec::new()));
        }
        let cause = interrupted(OperationKind::Attach);
        (false, self.undo_plug(operation, &cause, RECOVERY).map(|()| Vec::new()))
    }

    /// Whether a running machine has a part.
    fn has_part(&self, row: &StoredInstance, key: &PartKey) -> bool {
        let id = row.instance.id;
        let Ok(launcher) = self.launcher(&row.instance.hypervisor) else { return false };
        if !matches!(launcher.find(id), Presence::Running(_)) {
            return false;
        }
        let there = launcher.plugged_parts(id).ok().flatten().unwrap_or_default();
        row.instance.options.place_of(key).is_some_and(|place| there.contains(&place))
    }

    /// Rolls back an attach that failed or was interrupted. What the guest keeps stays the instance's until it lets go.
    fn undo_plug(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        patience: Duration,
    ) -> Result<(), Refusal> {
        let Some((mut row, key)) = self.moving_part(operation)? else {
            let message = Some(cause.message.as_str());
            return self.journal.close_operation(operation, Outcome::Undone, message, |_| Ok(()));
        };
        match self.take_part_out(operation, &row, &key, patience) {
            Whereabouts::Out => {}
            Whereabouts::Kept(why) => {
                return Err(self.keep_part(operation, row, &key, Outcome::Failed, &why)?);
            }
            Whereabouts::Unknown(why) => return self.part_is_unknown(operation, row, &key, &why),
        }
        forget_part(&mut row.instance.options, &key);
        self.journal
            .close_operation(operation, Outcome::Undone, Some(&cause.message), |tx| {
                row.update_settings(tx)
            })
            .map_err(refusals::rolled_back_not_recorded)
    }

    /// Takes a part from a running machine: its guest is asked to let go of it.
    pub(super) fn unplug_part(
        &self,
        mut row: StoredInstance,
        key: &PartKey,
        patience: Duration,
    ) -> Result<Instance, Refusal> {
        let id = row.instance.id;
        if row.instance.state == InstanceState::Paused {
            let resume = format!(
                "its guest must let go of it: `handover instance resume {}` lets it continue",
                row.instance.name
            );
            return Err(wrong_state(&row, "asked for a disk or network card", resume));
        }
        row.instance.options.moving.parts.now = Some(key.clone());
        let operation =
            self.journal.open_operation(OperationKind::Detach, id, |tx| row.update_settings(tx))?;
        self.finish_unplug(&operation, patience)?;
        self.find(&id.to_string())
    }

    /// Finishes an interrupted detach of a part. The guest may not have been asked yet.
    pub(super) fn recover_unplug(&self, operation: &OpenOperation) -> Result<Vec<String>, Refusal> {
        self.finish_unplug(operation, RECOVERY).map(|()| Vec::new())
    }

    fn finish_unplug(&self, operation: &OpenOperation, patience: Duration) -> Result<(), Refusal> {
        let Some((mut row, key)) = self.moving_part(operation)? else {
            return self.journal.close_operation(operation, Outcome::Done, None, |_| Ok(()));
        };
        match self.take_part_out(operation, &row, &key, patience) {
            Whereabouts::Out => {}
            Whereabouts::Kept(why) => {
                return Err(self.keep_part(operation, row, &key, Outcome::Undone, &why)?);
            }
            Whereabouts::Unknown(why) => return self.part_is_unknown(operation, row, &key, &why),
        }
        let volume = forget_part(&mut row.instance.options, &key);
        self.journal
            .close_operation(operation, Outcome::Done, None, |tx| record_without(tx, &row, volume))
    }

    /// Takes a part out of a machine: asks the guest, and waits for it.
    fn take_part_out(
        &self,
        operation: &OpenOperation,
        row: &StoredInstance,
        key: &PartKey,
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
        let Some(place) = row.instance.options.place_of(key) else { return Whereabouts::Out };
        let step = MachineStep::UnplugPart { place };
        let unplugged = self.journal.machine(operation, step, || {
            self.ask_for(patience, id, |slice| launcher.unplug_part(id, place, slice))
        });
        match (unplugged, launcher.find(id)) {
            (_, Presence::Gone) | (Ok(Unplugged::Out), _) => Whereabouts::Out,
            (Ok(Unplugged::Kept(why)), _) => Whereabouts::Kept(why),
            (Err(error), _) => Whereabouts::Kept(error.to_string()),
        }
    }

    /// Asks the guest, until it lets go, its time is over, or a stop, a deletion or the daemon's end does not let it have more.
    pub(super) fn ask_for(
        &self,
        patience: Duration,
        id: Uuid,
        ask: impl Fn(Duration) -> Result<Unplugged, LaunchError>,
    ) -> Result<Unplugged, LaunchError> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let asked = Instant::now();
            let slice = left.min(SLICE);
            let unplugged = match ask(slice) {
                // While the VMM removes a large device, its monitor can be silent for seconds.
                Err(LaunchError::Deadline { .. })
                    if left > SLICE && !self.journal.turns.is_hurried(id) =>
                {
                    continue;
                }
                asked => asked?,
            };
            // A launcher that does not use its time knows that more is no use.
            let is_final = asked.elapsed() < slice || left <= SLICE;
            match unplugged {
                Unplugged::Kept(_) if !is_final && !self.journal.turns.is_hurried(id) => {}
                ended => return Ok(ended),
            }
        }
    }

    /// Records that the guest still has a part that was asked for. Returns the refusal.
    fn keep_part(
        &self,
        operation: &OpenOperation,
        mut row: StoredInstance,
        key: &PartKey,
        outcome: Outcome,
        why: &str,
    ) -> Result<Refusal, Refusal> {
        let name = row.instance.name.clone();
        row.instance.options.moving.parts.wait_for(key);
        let message = format!("the guest of {name:?} still has {key}: {why}");
        self.journal
            .close_operation(operation, outcome, Some(&message), |tx| row.update_settings(tx))?;
        Ok(Refusal::new(
            Code::GuestKeepsDevice,
            message,
            format!(
                "end what uses it in the guest; the instance loses it as soon as the guest lets go of it, or its machine ends \
                 (`handover instance stop {name}`)"
            ),
        ))
    }

    fn part_is_unknown(
        &self,
        operation: &OpenOperation,
        mut row: StoredInstance,
        key: &PartKey,
        why: &str,
    ) -> Result<(), Refusal> {
        let refusal = unknown(&row.instance.name, why);
        row.instance.options.moving.parts.wait_for(key);
        self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        self.close_unknown(operation, &mut row, &refusal)?;
        Err(refusal)
    }

    /// Completes what is left of parts that leave, and notices what the guest has ejected. The caller has the instance's turn.
    pub(super) fn settle_parts(
        &self,
        row: &mut StoredInstance,
        is_over: bool,
    ) -> Result<(), Refusal> {
        let id = row.instance.id;
        let keys = parts(&row.instance.options);
        if keys.is_empty() {
            return Ok(());
        }
        let launcher = self.launcher(&row.instance.hypervisor)?;
        let there =
            if is_over { Some(Vec::new()) } else { launcher.plugged_parts(id).ok().flatten() };
        let Some(there) = there else { return Ok(()) };
        for key in keys {
            let Some(place) = row.instance.options.place_of(&key) else { continue };
            let moving = &row.instance.options.moving.parts;
            let (is_leaving, is_known) =
                (moving.leaving.contains(&key), moving.ejected.contains(&key));
            if there.contains(&place) || is_known || (is_over && !is_leaving) {
                continue;
            }
            // The guest has let go of it, and the VMM still has its file.
            if !is_over && !is_closed(&**launcher, id, place) {
                continue;
            }
            self.part_has_left(row, &key, is_leaving)?;
        }
        let ejected = &mut row.instance.options.moving.parts.ejected;
        if is_over && !ejected.is_empty() {
            ejected.clear();
            self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        }
        Ok(())
    }

    /// Records that a part has left: because it was asked for, or because the guest ejected it.
    fn part_has_left(
        &self,
        row: &mut StoredInstance,
        key: &PartKey,
        is_leaving: bool,
    ) -> Result<(), Refusal> {
        if is_leaving {
            let volume = forget_part(&mut row.instance.options, key);
            self.store.write(Durability::Power, |tx| record_without(tx, row, volume))?;
        } else {
            tracing::warn!(machine = %row.instance.id, "the guest has ejected {key}");
            row.instance.options.moving.parts.note_ejected(key);
            self.store.write(Durability::Power, |tx| row.update_settings(tx))?;
        }
        self.journal.notify();
        Ok(())
    }

    /// What happens with the disks and network cards of an instance, in words.
    pub(super) fn unsettled_parts(instance: &Instance) -> Vec<String> {
        let moving = &instance.options.moving.parts;
        let name = &instance.name;
        let word = |key: &PartKey| match key {
            PartKey::Disk(serial) => serial.clone(),
            PartKey::Card(mac) => mac.to_string(),
        };
        let leaving = moving.leaving.iter().map(|key| {
            format!("the guest was asked to let go of {key}, which the instance loses as soon as it does; `handover instance detach {name} {}` asks again", word(key))
        });
        let ejected = moving.ejected.iter().map(|key| {
            format!("the guest has ejected {key}; it comes back with the next start, or when it is detached and attached again")
        });
        leaving.chain(ejected).collect()
    }
}

/// Whether the VMM has closed what was behind a part that the guest no longer has.
fn is_closed(launcher: &dyn Launcher, id: Uuid, place: PartPlace) -> bool {
    let closed = launcher.unplug_part(id, place, Duration::ZERO);
    matches!(closed, Ok(Unplugged::Out))
}

/// The disks and network cards of a machine that can leave it while it runs.
fn parts(options: &MachineOptions) -> Vec<PartKey> {
    let disks = options.disks.iter().filter(|disk| disk.port.is_some()).map(GuestDisk::key);
    let cards = options.cards.iter().filter(|card| card.port.is_some());
    disks.chain(cards.map(NetworkCard::key)).collect()
}

/// Takes a part out of an instance's record, which is not written yet. Returns its volume.
pub(super) fn forget_part(options: &mut MachineOptions, key: &PartKey) -> Option<Uuid> {
    let disk = options.disks.iter().find(|disk| disk.key() == *key);
    let volume = disk.and_then(GuestDisk::volume);
    options.disks.retain(|disk| disk.key() != *key);
    options.cards.retain(|card| card.key() != *key);
    options.moving.parts.forget(key);
    volume
}

/// Writes an instance that has lost a disk. A volume keeps its data, and is no longer deleted with the instance.
pub(super) fn record_without(
    tx: &Transaction<'_>,
    row: &StoredInstance,
    volume: Option<Uuid>,
) -> rusqlite::Result<()> {
    volume.map_or(Ok(()), |id| Volume::keep(tx, id))?;
    row.update_settings(tx)
}
