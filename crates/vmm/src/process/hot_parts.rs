//! Disks and network cards of a running machine: what they are opened by, and what they leave on the host.

use std::time::{Duration, Instant};

use model::{
    LaunchError, Launcher, NetworkCard, NewPart, PartKind, PartPlace, PartPlug, Presence, Unplugged,
};
use rustix::fd::OwnedFd;
use uuid::Uuid;

use super::control::{Control, ControlError};
use super::log::printable;
use super::open_file;
use super::order::OpenFile;
use super::start::START;
use super::vmm::Vmm;
use super::{ANSWER, ProcessLauncher, deadline, does_not_run, unconnected, watching};

impl<V: Vmm> ProcessLauncher<V> {
    /// Opens what is behind a disk or network card, and plugs it.
    pub(super) fn plug_in_part(&self, plug: &PartPlug) -> Result<(), LaunchError> {
        if !matches!(self.find(plug.id), Presence::Running(_)) {
            return Err(does_not_run());
        }
        let descriptors = match &plug.part {
            NewPart::Disk(file) => {
                let file = OpenFile {
                    path: file.path.clone(),
                    block: file.block.map(|block| block.number),
                    writable: !file.disk.read_only,
                    vmm_args: Vec::new(),
                };
                let opened = open_file::open(&file);
                vec![opened.map_err(|error| LaunchError::Plug { reason: error.to_string() })?]
            }
            NewPart::Card(card) => self.connect_card(plug, card)?,
        };
        let control = Control::running(self.run_dir(plug.id).control());
        let until = Instant::now() + START;
        self.vmm.plug_part(plug, &descriptors, &control, until).map_err(|error| match error {
            ControlError::Deadline(_) => deadline("take it", START),
            ControlError::Refused(_, reason) => LaunchError::Plug { reason: printable(&reason) },
            error => {
                let error = LaunchError::Monitor { reason: printable(&error.to_string()) };
                self.gone_or(plug.id, error)
            }
        })
    }

    /// Makes the interface of a network card. It is in the machine's record before, so that it is always removed later.
    fn connect_card(
        &self,
        plug: &PartPlug,
        card: &NetworkCard,
    ) -> Result<Vec<OwnedFd>, LaunchError> {
        let run = self.run_dir(plug.id);
        let name = interface(plug.id, plug.port);
        let record = run.record().map_err(watching)?;
        let mut record = record.ok_or_else(|| LaunchError::Monitor {
            reason: "the machine has no record in the run directory".into(),
        })?;
        if !record.interfaces.contains(&name) {
            // Each interface has its address at the same place; machines of earlier versions have no addresses.
            if record.interfaces.len() == record.macs.len() {
                record.macs.push(card.mac);
            }
            record.interfaces.push(name.clone());
            run.write_record(&record).map_err(watching)?;
        }
        let links = self.config.links;
        let opened = links.open(&self.config.root, &name, &card.link, card.mac);
        let opened = opened.map_err(unconnected)?;
        Ok(std::iter::once(opened.card).chain(opened.vhost).collect())
    }

    /// Asks the guest to let go of a disk or network card, and removes what it had on the host.
    pub(super) fn take_out_part(
        &self,
        id: Uuid,
        place: PartPlace,
        patience: Duration,
    ) -> Result<Unplugged, LaunchError> {
        let ended = self.ask(id, "let go of it", patience, |control, until| {
            self.vmm.unplug_part(place, control, until)
        })?;
        if ended == Unplugged::Out && place.kind == PartKind::Card {
            self.disconnect_card(id, place.port)?;
        }
        Ok(ended)
    }

    fn disconnect_card(&self, id: Uuid, port: u32) -> Result<(), LaunchError> {
        let run = self.run_dir(id);
        let name = interface(id, port);
        let Some(mut record) = run.record().map_err(watching)? else { return Ok(()) };
        let Some(at) = record.interfaces.iter().position(|one| *one == name) else { return Ok(()) };
        let mac = record.macs.get(at).copied();
        let removed = self.config.links.remove(&self.config.root, &name, mac);
        removed.map_err(unconnected)?;
        record.interfaces.remove(at);
        if mac.is_some() {
            record.macs.remove(at);
        }
        run.write_record(&record).map_err(watching)
    }

    /// Where a running machine has disks and network cards that can leave.
    pub(super) fn list_parts(&self, id: Uuid) -> Result<Option<Vec<PartPlace>>, LaunchError> {
        self.ask(id, "say which disks and network cards it has", ANSWER, |control, until| {
            self.vmm.plugged_parts(control, until)
        })
    }
}

/// The interface of the card behind this port.
fn interface(machine: Uuid, port: u32) -> String {
    NetworkCard::interface_at(machine, port)
}
