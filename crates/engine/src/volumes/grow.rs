//! Volumes that become larger.

use image::NewVolume;
use model::{Code, Refusal, format_size, shown};

use super::{Volumes, checked};
use crate::lock::lock;
use crate::store::{Durability, StoredInstance};
use crate::{InstanceState, Volume};

impl Volumes {
    /// Makes a volume larger. The instances that have it must not run.
    ///
    /// # Errors
    /// `not_found`, `invalid_size` if it is not larger, `in_use` if a machine has it, `insufficient_resources`.
    pub fn grow(&self, key: &str, size: u64) -> Result<Volume, Refusal> {
        let (volume, attachments) = self.find(key)?;
        let mut instances: Vec<_> = attachments.iter().map(|one| one.instance).collect();
        instances.sort_unstable();
        // No machine of theirs starts meanwhile.
        let _turns = instances
            .into_iter()
            .map(|instance| self.journal.turn_of(instance))
            .collect::<Result<Vec<_>, _>>()?;
        let _allocation = lock(&self.journal.allocation);
        let (mut volume, attachments) = self.find(&volume.id.to_string())?;
        let rows = self.store.read(StoredInstance::all)?;
        let is_running = |row: &&StoredInstance| {
            attachments.iter().any(|one| one.instance == row.instance.id)
                && !matches!(row.instance.state, InstanceState::Stopped | InstanceState::Shutdown)
        };
        if let Some(user) = rows.iter().find(is_running) {
            let name = &user.instance.name;
            return Err(Refusal::new(
                Code::InUse,
                format!("the machine of {name:?} has the volume {:?}", volume.name),
                format!("stop it first: `handover instance stop {name}`"),
            ));
        }
        let Volume { format, allocated: allocate, .. } = volume;
        let file = checked(NewVolume { size, format, allocate })?;
        if file.size <= volume.size {
            return Err(Refusal::new(
                Code::InvalidSize,
                format!(
                    "the volume {:?} has {} already, and {} are asked for: a volume can only become larger",
                    volume.name,
                    shown::bytes(volume.size),
                    format_size(file.size)
                ),
                "ask for more, or copy its data to a new, smaller volume",
            ));
        }
        self.check(&volume)?;
        self.files.grow(volume.id, file)?;
        volume.size = file.size;
        self.store.write(Durability::Power, |tx| volume.update_size(tx))?;
        self.journal.notify();
        Ok(volume)
    }

    /// Records the sizes of volumes that became larger just before a crash. Returns why files cannot be read.
    pub(super) fn settle(&self, known: &[Volume]) -> Result<Vec<String>, Refusal> {
        let mut notes = Vec::new();
        for volume in known {
            match self.files.size(volume.id, volume.format) {
                Ok(size) if size > volume.size => {
                    let mut grown = volume.clone();
                    grown.size = size;
                    self.store.write(Durability::Power, |tx| grown.update_size(tx))?;
                }
                // One that is smaller is damaged: its instances are not started.
                Ok(_) => {}
                Err(problem) => notes.push(format!("the volume {:?}: {problem}", volume.name)),
            }
        }
        Ok(notes)
    }
}
