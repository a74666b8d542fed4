//! Volumes: disks of their own, which outlast the machines that have them.

mod grow;
mod making;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image::{Budget, Cancel, ImageError, NewVolume};
use jiff::Timestamp;
use model::{Code, Disk, DiskFormat, Refusal, check_volume_name};
use uuid::Uuid;

use crate::images::{Images, tool};
use crate::journal::Journal;
use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, Store, StoredInstance};
use crate::tags::has_tags;
use making::Making;

use crate::{Attachment, Config, CreateVolume, Instance, Volume};

/// The smallest and the largest volume, in bytes.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 16 << 40;

/// What the size of a volume is a multiple of: the block size of most file systems.
const BLOCK: u64 = 4096;

/// Volumes: [`Engine::volumes`](crate::Engine::volumes). They own the table `volumes`.
pub struct Volumes {
    store: Arc<Store>,
    journal: Arc<Journal>,
    files: image::Volumes,
    making: Making,
    images: Arc<Images>,
}

/// How long a deletion waits until the making of its volume has ended.
const ENDING: Duration = Duration::from_secs(10);

impl Volumes {
    pub(crate) fn new(
        store: &Arc<Store>,
        journal: &Arc<Journal>,
        images: &Arc<Images>,
        disk: Arc<dyn Disk>,
        config: &Config,
    ) -> Arc<Self> {
        let budget = Budget::new(disk, config.image_limits);
        let files = image::Volumes::new(config.state_dir.join("volumes"), budget, tool(config));
        Arc::new(Self {
            store: store.clone(),
            journal: journal.clone(),
            files,
            making: Making::default(),
            images: images.clone(),
        })
    }

    /// Ends what was interrupted while volumes were made or deleted. Returns notes: files that no volume has, which stay,
    /// and why something could not be done.
    pub(crate) fn recover(&self) -> Result<Vec<String>, Refusal> {
        let volumes = self.store.read(Volume::all)?;
        let known: BTreeSet<Uuid> = volumes.iter().map(|volume| volume.id).collect();
        let unknown = match self.files.sweep(&known) {
            Err(error) => return Ok(vec![error.to_string()]),
            Ok(unknown) => unknown,
        };
        let mut notes = self.settle(&volumes)?;
        notes.extend(unknown.iter().map(|path| {
            format!(
                "{} has the data of a volume that is not recorded, as after a restored backup; it stays until you remove it",
                path.display()
            )
        }));
        Ok(notes)
    }

    /// Creates a volume.
    ///
    /// # Errors
    /// `invalid_name`, `invalid_size`, `already_exists`, `insufficient_resources`.
    pub fn create(&self, wanted: CreateVolume) -> Result<Volume, Refusal> {
        self.create_by(wanted, &Cancel::default(), |volume| self.make(std::slice::from_ref(volume)))
    }

    /// Creates a volume with an ext4 file system that has the files of an archive (`.tar.gz`). Ends soon after `cancel` was set, the
    /// volume was deleted, or all was cancelled.
    ///
    /// # Errors
    /// As [`create`](Self::create); `invalid_request` if the archive is not accepted, `hypervisor_missing` without mke2fs,
    /// `invalid_state` if it was cancelled.
    pub fn create_from_archive(
        &self,
        wanted: CreateVolume,
        archive: File,
        cancel: &Cancel,
    ) -> Result<Volume, Refusal> {
        self.create_by(wanted, cancel, |volume| {
            let Volume { size, format, allocated: allocate, .. } = *volume;
            let new = NewVolume { size, format, allocate };
            self.files.create_from_archive(volume.id, new, archive, cancel)?;
            Ok(MadeFiles { files: &self.files, ids: vec![volume.id] })
        })
    }

    /// Creates a volume with the content of a disk image. It can be larger than the image. Ends as
    /// [`create_from_archive`](Self::create_from_archive) does.
    ///
    /// # Errors
    /// As [`create`](Self::create); `not_found`, `image_not_ready`, `too_many_requests`, `invalid_state` if it was cancelled.
    pub fn create_from_image(
        &self,
        wanted: CreateVolume,
        image: &str,
        cancel: &Cancel,
    ) -> Result<Volume, Refusal> {
        let _admission = self.images.admit()?;
        self.create_by(wanted, cancel, |volume| {
            let from = self.images.for_volume(volume.id, &volume.name, image)?;
            let Volume { size, format, allocated: allocate, .. } = *volume;
            if size < from.size {
                return Err(Refusal::new(
                    Code::InvalidSize,
                    format!(
                        "the disk of the image {image:?} has {}, more than the requested {}",
                        model::shown::bytes(from.size),
                        model::format_size(size)
                    ),
                    "ask for its size or more",
                ));
            }
            let new = NewVolume { size, format, allocate };
            self.files.create_from_image(volume.id, new, (&from.path, from.format), cancel)?;
            Ok(MadeFiles { files: &self.files, ids: vec![volume.id] })
        })
    }

    /// Cancels the making of all volumes, because the daemon is stopping.
    pub(crate) fn cancel_all(&self) {
        self.making.cancel_all();
    }

    fn create_by<'a>(
        &'a self,
        wanted: CreateVolume,
        cancel: &Cancel,
        make: impl FnOnce(&Volume) -> Result<MadeFiles<'a>, Refusal>,
    ) -> Result<Volume, Refusal> {
        check_volume_name(&wanted.name)?;
        let file = checked(wanted.file)?;
        let volume = Volume {
            id: wanted.id.unwrap_or_else(Uuid::new_v4),
            name: wanted.name,
            size: file.size,
            format: file.format,
            allocated: file.allocate,
            made_with: None,
            created_at: Timestamp::now(),
            tags: wanted.tags,
        };
        self.expect_new(&volume)?;
        let _making = self.making.begin(volume.id, &volume.name, cancel)?;
        let made = make(&volume)?;
        let _allocation = lock(&self.journal.allocation);
        if cancel.is_set() {
            return Err(ImageError::Cancelled.into());
        }
        self.expect_new(&volume)?;
        self.store.write(Durability::Power, |tx| volume.insert(tx))?;
        made.keep();
        self.journal.notify();
        Ok(volume)
    }

    /// Creates the files of new volumes, which are removed again if they are not kept.
    pub(crate) fn make(&self, volumes: &[Volume]) -> Result<MadeFiles<'_>, Refusal> {
        self.make_formatted(volumes, &[])
    }

    /// The same; those in `formatted` get an empty file system.
    pub(crate) fn make_formatted(
        &self,
        volumes: &[Volume],
        formatted: &[Uuid],
    ) -> Result<MadeFiles<'_>, Refusal> {
        let mut made = MadeFiles { files: &self.files, ids: Vec::new() };
        for volume in volumes {
            let Volume { id, size, format, allocated, .. } = *volume;
            let new = NewVolume { size, format, allocate: allocated };
            if formatted.contains(&id) {
                self.files.create_formatted(id, new)?;
            } else {
                self.files.create(id, new)?;
            }
            made.ids.push(id);
        }
        Ok(made)
    }

    /// Makes a file system on an empty volume, which no one uses.
    pub(crate) fn format(&self, volume: &Volume) -> Result<(), Refusal> {
        Ok(self.files.format(volume.id, volume.allocated)?)
    }

    /// The volumes are about to be deleted: whether a crash leaves their files depends on whether they are still recorded.
    pub(crate) fn condemn(&self, volumes: &[Volume]) {
        for volume in volumes {
            if let Err(error) = self.files.condemn(volume.id) {
                tracing::warn!(volume = volume.name, "cannot rename its directory: {error}");
            }
        }
    }

    /// Removes the files of volumes that are no longer recorded. Those that stay are removed at the next start.
    pub(crate) fn discard(&self, volumes: &[Volume]) {
        for volume in volumes {
            if let Err(error) = self.files.remove(volume.id) {
                tracing::warn!(volume = volume.name, "cannot remove its file: {error}");
            }
        }
    }

    /// Checks that the file of a volume is as it was left.
    pub(crate) fn check(&self, volume: &Volume) -> Result<(), Refusal> {
        let Volume { size, format, allocated, .. } = *volume;
        let expected = NewVolume { size, format, allocate: allocated };
        self.files.check(volume.id, expected).map_err(|problem| {
            Refusal::new(
                Code::Internal,
                format!("the volume {:?} cannot be used: {problem}", volume.name),
                "restore the file, or take the volume away: `handover instance detach INSTANCE VOLUME`",
            )
        })
    }

    /// The file of a volume.
    pub(crate) fn path(&self, id: Uuid) -> PathBuf {
        self.files.path(id)
    }

    /// Whether a volume is known to have no data.
    pub(crate) fn is_empty(&self, volume: &Volume) -> bool {
        volume.format == DiskFormat::Raw && self.files.is_empty(volume.id)
    }

    /// How many bytes a volume takes on the disk.
    #[must_use]
    pub fn used(&self, id: Uuid) -> Option<u64> {
        self.files.used(id)
    }

    /// The volumes with all these tags, each with the instances that have it.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn all(
        &self,
        tags: &BTreeMap<String, String>,
    ) -> Result<Vec<(Volume, Vec<Attachment>)>, Refusal> {
        let (volumes, instances) =
            self.store.read(|from| Ok((Volume::all(from)?, StoredInstance::all(from)?)))?;
        let volumes = volumes.into_iter().filter(|volume| has_tags(&volume.tags, tags));
        Ok(volumes
            .map(|volume| {
                let attachments = attachments(volume.id, &instances);
                (volume, attachments)
            })
            .collect())
    }

    /// All volumes by their ids.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn by_id(&self) -> Result<BTreeMap<Uuid, Volume>, Refusal> {
        let all = self.store.read(Volume::all)?;
        Ok(all.into_iter().map(|volume| (volume.id, volume)).collect())
    }

    /// A volume by id or name, with the instances that have it.
    ///
    /// # Errors
    /// `not_found`.
    pub fn find(&self, key: &str) -> Result<(Volume, Vec<Attachment>), Refusal> {
        let (volume, instances) =
            self.store.read(|from| Ok((Volume::by_key(from, key)?, StoredInstance::all(from)?)))?;
        let volume =
            volume.ok_or_else(|| refusals::no_such("volume", key, "handover volume list"))?;
        let attachments = attachments(volume.id, &instances);
        Ok((volume, attachments))
    }

    /// Deletes a volume and its data. If it is being made, that ends, and nothing is left of it.
    ///
    /// # Errors
    /// `not_found`, `in_use`.
    pub fn delete(&self, key: &str) -> Result<(), Refusal> {
        let was_made = self.making.cancel(key, ENDING);
        match self.delete_recorded(key) {
            // Otherwise it was complete just before.
            Err(refusal) if refusal.code == Code::NotFound && was_made => Ok(()),
            deleted => deleted,
        }
    }

    fn delete_recorded(&self, key: &str) -> Result<(), Refusal> {
        let _allocation = lock(&self.journal.allocation);
        let (volume, attachments) = self.find(key)?;
        if let Some(user) = attachments.first() {
            return Err(Refusal::new(
                Code::InUse,
                format!("the instance {:?} has the volume {:?}", user.name, volume.name),
                format!("run `handover instance detach {} {}` first", user.name, volume.name),
            ));
        }
        let volume = [volume];
        self.condemn(&volume);
        let deleted = self.store.write(Durability::Power, |tx| {
            volume.iter().try_for_each(|volume| Volume::delete(tx, volume.id))
        });
        if let Err(refusal) = deleted {
            let _ = self.files.keep(volume[0].id);
            return Err(refusal);
        }
        self.discard(&volume);
        self.journal.notify();
        Ok(())
    }

    /// Checks that an instance can have its volumes: they exist, and no other instance has one of them, unless none of
    /// them can write to it. Call it under the allocation lock.
    pub(crate) fn expect_free(&self, instance: &Instance, new: &[Volume]) -> Result<(), Refusal> {
        let instances = self.store.read(StoredInstance::all)?;
        for disk in &instance.options.disks {
            let Some(id) = disk.volume() else { continue };
            if let Some(volume) = new.iter().find(|volume| volume.id == id) {
                self.expect_new(volume)?;
                continue;
            }
            let Some(volume) = self.store.read(|from| Volume::by_id(from, id))? else {
                return Err(refusals::no_such("volume", &id.to_string(), "handover volume list"));
            };
            let mut others = attachments(id, &instances)
                .into_iter()
                .filter(|other| other.instance != instance.id);
            if let Some(other) = others.find(|other| !(other.read_only && disk.read_only)) {
                return Err(taken(&volume, &other));
            }
        }
        Ok(())
    }

    fn expect_new(&self, volume: &Volume) -> Result<(), Refusal> {
        let (by_name, by_id) = self.store.read(|from| {
            Ok((Volume::by_key(from, &volume.name)?, Volume::by_id(from, volume.id)?))
        })?;
        if by_name.is_none() && by_id.is_none() {
            return Ok(());
        }
        let what = match by_id {
            Some(_) => format!("a volume with the id {}", volume.id),
            None => format!("a volume named {:?}", volume.name),
        };
        Err(Refusal::new(
            Code::AlreadyExists,
            format!("{what} already exists"),
            "choose another; `handover volume list` shows those there are",
        ))
    }
}

/// Files that are removed, unless they are kept.
#[must_use]
pub struct MadeFiles<'a> {
    files: &'a image::Volumes,
    ids: Vec<Uuid>,
}

impl MadeFiles<'_> {
    /// Their volumes are recorded: the files stay.
    pub(crate) fn keep(mut self) {
        for id in std::mem::take(&mut self.ids) {
            if let Err(error) = self.files.keep(id) {
                // The next start does it.
                tracing::error!(%id, "cannot rename the directory of a volume: {error}");
            }
        }
    }
}

impl Drop for MadeFiles<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // As after a crash: the next start decides.
            return;
        }
        for id in &self.ids {
            // What stays is removed at the next start.
            let _ = self.files.remove(*id);
        }
    }
}

/// Checks the file of a new volume, and rounds its size up to whole blocks.
pub fn checked(file: NewVolume) -> Result<NewVolume, Refusal> {
    if !(LEAST..=MOST).contains(&file.size) {
        return Err(Refusal::new(
            Code::InvalidSize,
            format!("a disk cannot have {}", model::format_size(file.size)),
            format!("ask for {} to {}", model::format_size(LEAST), model::format_size(MOST)),
        ));
    }
    if file.allocate && file.format != DiskFormat::Raw {
        return Err(Refusal::new(
            Code::InvalidRequest,
            "only a raw disk can take its whole size from the host's disk at once",
            "use the format raw, or let the disk grow as it is written",
        ));
    }
    Ok(NewVolume { size: file.size.next_multiple_of(BLOCK), ..file })
}

/// The instances that have a volume.
fn attachments(volume: Uuid, instances: &[StoredInstance]) -> Vec<Attachment> {
    let of = |row: &StoredInstance| {
        let disk = row.instance.options.disks.iter().find(|disk| disk.volume() == Some(volume))?;
        Some(Attachment {
            instance: row.instance.id,
            name: row.instance.name.clone(),
            read_only: disk.read_only,
            mount_path: disk.mount_path.clone(),
        })
    };
    instances.iter().filter_map(of).collect()
}

fn taken(volume: &Volume, other: &Attachment) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!("the instance {:?} has the volume {:?}", other.name, volume.name),
        format!(
            "`handover instance detach {} {}` takes it away; several instances can have a volume only if all have it read-only",
            other.name, volume.name
        ),
    )
}
