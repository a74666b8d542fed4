//! The disks of an instance besides its root disk.

use std::path::Path;
use std::time::Duration;

use image::NewVolume;
use jiff::Timestamp;
use model::{
    Code, ContainerBoot, DiskBus, DiskContent, DiskFile, DiskFormat, GuestDisk, NewPart, Refusal,
    check_serial, is_serial,
};
use uuid::Uuid;

use super::blocks::{invalid, is_block};
use super::parts::{USUAL, forget_part, record_without};
use super::pause::runs;
use super::{Instances, wrong_state};
use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, StoredImage, StoredInstance};
use crate::volumes::checked;
use crate::{DiskWish, ImageStatus, Instance, InstanceState, Volume, WantedContent};

/// The most disks of a machine besides its root disk.
const MOST_DISKS: usize = 32;

/// The serial number of the disk that configures a guest at its first boot.
const SEED: &str = "seed";

/// The longest path at which a guest mounts a disk.
const LONGEST_MOUNT_PATH: usize = 1024;

/// The disks of an instance, before they are recorded.
#[derive(Debug, Default)]
pub struct Planned {
    /// The disks.
    pub disks: Vec<GuestDisk>,
    /// The volumes that are new.
    pub new: Vec<Volume>,
    /// The serial numbers of the block devices without data.
    pub blank: Vec<String>,
    /// The new volumes that get a file system on the host.
    pub formatted: Vec<Uuid>,
}

impl Instances {
    /// The disks that a request asks for, before anything is made or reserved for them.
    pub(super) fn plan_disks(
        &self,
        instance: &Instance,
        wishes: &[DiskWish],
    ) -> Result<Planned, Refusal> {
        let disks = instance.options.disks.clone();
        let mut planned = Planned { disks, ..Planned::default() };
        for wish in wishes {
            self.plan_disk(instance, wish, &mut planned)?;
        }
        expect_places(&planned.disks)?;
        expect_mounts(&planned.disks)?;
        Ok(planned)
    }

    fn plan_disk(
        &self,
        instance: &Instance,
        wish: &DiskWish,
        planned: &mut Planned,
    ) -> Result<(), Refusal> {
        let taken = &planned.disks;
        if let WantedContent::Volume(key) = &wish.content {
            self.wanted_volume(key, taken)?;
        }
        let serial = self.wanted_serial(wish, taken)?;
        let content = match &wish.content {
            WantedContent::Block { name, allow_data } => {
                let wanted = self.wanted_block(name, *allow_data, wish, taken)?;
                planned.blank.extend(wanted.is_blank.then(|| serial.clone()));
                DiskContent::Block(wanted.block)
            }
            WantedContent::Volume(key) => DiskContent::Volume(self.wanted_volume(key, taken)?),
            WantedContent::Cdrom(name) => DiskContent::Cdrom(self.cdrom_image(name)?.id),
            WantedContent::New(file) => {
                let name = self.free_name(&format!("{}/{serial}", instance.name))?;
                let volume = new_volume(instance, name, checked(*file)?);
                planned.new.push(volume);
                DiskContent::Volume(planned.new.last().map_or(Uuid::nil(), |volume| volume.id))
            }
        };
        let mount_path = wish.mount_path.clone().filter(|path| !path.is_empty());
        mount_path.as_deref().map_or(Ok(()), check_mount_path)?;
        let is_cdrom = matches!(content, DiskContent::Cdrom(_));
        let usual = if is_cdrom { DiskBus::Sata } else { DiskBus::Virtio };
        let bus = wish.bus.unwrap_or(usual);
        let read_only = wish.read_only || is_cdrom;
        if is_cdrom && bus != DiskBus::Sata {
            return Err(invalid(
                format!("a CD-ROM cannot be connected by {}", bus.as_str()),
                "leave the bus out: it is sata",
            ));
        }
        if read_only && !is_cdrom && bus == DiskBus::Sata {
            return Err(invalid(
                "a disk connected by sata cannot be read-only",
                "use virtio, scsi or nvme for a read-only disk",
            ));
        }
        planned.disks.push(GuestDisk { content, bus, serial, read_only, mount_path, port: None });
        Ok(())
    }

    /// The serial number of a disk.
    fn wanted_serial(&self, wish: &DiskWish, taken: &[GuestDisk]) -> Result<String, Refusal> {
        let serial = match (&wish.serial, &wish.content) {
            (Some(serial), _) => {
                check_serial(serial)?;
                serial.clone()
            }
            (None, WantedContent::Volume(key)) => {
                let name = self.volumes.find(key)?.0.name;
                if is_serial(&name) && !is_own(&name) { name } else { free_serial("disk", taken) }
            }
            (None, WantedContent::Block { name, .. }) => block_serial(name.as_ref(), taken),
            (None, WantedContent::New(_)) => free_serial("disk", taken),
            (None, WantedContent::Cdrom(_)) => free_serial("cd", taken),
        };
        if is_own(&serial) {
            return Err(invalid(
                format!("the serial number {serial} is that of a disk of Handover's own"),
                "choose another serial number",
            ));
        }
        if taken.iter().any(|disk| disk.serial == serial) {
            return Err(invalid(
                format!("two disks have the serial number {serial}"),
                "give each disk its own, by which the guest finds it",
            ));
        }
        Ok(serial)
    }

    /// This name for a volume, or with a number if a disk that was detached has it.
    pub(super) fn free_name(&self, name: &str) -> Result<String, Refusal> {
        let all = self.volumes.by_id()?;
        let is_free = |name: &String| all.values().all(|volume| volume.name != *name);
        let mut others = (2..).map(|number: u32| format!("{name}-{number}"));
        let first = Some(name.to_owned()).filter(is_free);
        Ok(first.or_else(|| others.find(is_free)).unwrap_or_default())
    }

    fn wanted_volume(&self, key: &str, taken: &[GuestDisk]) -> Result<Uuid, Refusal> {
        let (volume, _) = self.volumes.find(key)?;
        if taken.iter().any(|disk| disk.volume() == Some(volume.id)) {
            return Err(invalid(
                format!("the machine has the volume {:?} twice", volume.name),
                "list each volume once",
            ));
        }
        self.volumes.check(&volume)?;
        Ok(volume.id)
    }

    /// An image that a machine can have as a CD-ROM.
    pub(super) fn cdrom_image(&self, name: &str) -> Result<StoredImage, Refusal> {
        let image = self.store.read(|from| StoredImage::by_name(from, name))?;
        let image = image.ok_or_else(|| refusals::no_such("image", name, "handover image list"))?;
        if image.image.status != ImageStatus::Ready {
            let show = format!("`handover image show {name}` shows its status");
            let message = format!("the image {name:?} cannot be used yet");
            return Err(Refusal::new(Code::ImageNotReady, message, show));
        }
        if image.image.disk_format != Some(DiskFormat::Raw) {
            return Err(invalid(
                format!("the image {name:?} is not one of a CD-ROM"),
                "import the ISO file: `handover image import NAME --disk FILE --format raw`",
            ));
        }
        Ok(image)
    }

    /// The files of an instance's disks, for the launcher.
    pub(super) fn disk_files(&self, row: &StoredInstance) -> Result<Vec<DiskFile>, Refusal> {
        let disks = row.instance.options.disks.iter();
        disks.map(|disk| self.disk_file(&row.instance, disk)).collect()
    }

    fn disk_file(&self, instance: &Instance, disk: &GuestDisk) -> Result<DiskFile, Refusal> {
        let (path, format) = match &disk.content {
            DiskContent::Block(block) => return self.block_file(instance, disk, block),
            DiskContent::Cdrom(id) => (self.images.paths(*id).disk, DiskFormat::Raw),
            DiskContent::Volume(id) => {
                let id = *id;
                let volume = self.store.read(|from| Volume::by_id(from, id))?;
                let volume = volume.ok_or_else(|| {
                    refusals::no_such("volume", &id.to_string(), "handover volume list")
                })?;
                self.volumes.check(&volume)?;
                (self.volumes.path(id), volume.format)
            }
        };
        Ok(DiskFile { disk: disk.clone(), path, format, block: None })
    }

    /// Which of the disks are empty, so that a guest may make a file system on them without losing data.
    pub(super) fn empty_disks(&self, planned: &Planned) -> Result<Vec<bool>, Refusal> {
        let is_empty = |disk: &GuestDisk| -> Result<bool, Refusal> {
            let Some(id) = disk.volume() else { return Ok(planned.blank.contains(&disk.serial)) };
            if planned.new.iter().any(|volume| volume.id == id) {
                return Ok(true);
            }
            let volume = self.store.read(|from| Volume::by_id(from, id))?;
            Ok(volume.is_some_and(|volume| self.volumes.is_empty(&volume)))
        };
        planned.disks.iter().map(is_empty).collect()
    }

    /// Gives an instance one more disk. A running machine gets it at once, another one at its next start.
    ///
    /// # Errors
    /// `not_found`; `in_use`; `invalid_state` if it runs and has no such disk then; `insufficient_resources` if a running machine
    /// has no port for it; `step_failed` if the machine does not take it. Changes are rolled back then.
    pub fn attach(&self, key: &str, wish: &DiskWish) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        if runs(&row.instance) {
            self.settle_devices(&mut row)?;
            return self.plug_disk(row, wish);
        }
        let mut row = self.stopped_for_disks(id)?;
        let planned = self.plan_disks(&row.instance, std::slice::from_ref(wish))?;
        let made = self.volumes.make(&planned.new)?;
        let _allocation = lock(&self.journal.allocation);
        row.instance.options.disks = planned.disks;
        self.volumes.expect_free(&row.instance, &planned.new)?;
        self.expect_free_blocks(&row.instance, &[])?;
        self.store.write(Durability::Power, |tx| {
            planned.new.iter().try_for_each(|volume| volume.insert(tx))?;
            row.update_settings(tx)
        })?;
        made.keep();
        self.journal.notify();
        Ok(row.instance)
    }

    /// Plugs a disk into a running machine.
    fn plug_disk(&self, mut row: StoredInstance, wish: &DiskWish) -> Result<Instance, Refusal> {
        let mut planned = self.plan_disks(&row.instance, std::slice::from_ref(wish))?;
        let Some(disk) = planned.disks.last_mut() else { return Ok(row.instance) };
        let name = &row.instance.name;
        if !disk.bus.is_hot_pluggable() {
            let bus = disk.bus.as_str();
            return Err(Refusal::new(
                Code::InvalidState,
                format!(
                    "{name:?} runs, and a running machine cannot get a disk that is connected by {bus}"
                ),
                format!(
                    "connect it by virtio or nvme, or stop the instance first: `handover instance stop {name}`"
                ),
            ));
        }
        if !planned.new.is_empty() {
            return Err(Refusal::new(
                Code::InvalidState,
                format!("{name:?} runs, and a new disk is made only with a stopped instance"),
                "make a volume (`handover volume create`), and attach that",
            ));
        }
        disk.port = Some(self.port_for_part(&row)?);
        let key = disk.key();
        let file = self.disk_file(&row.instance, disk)?;
        row.instance.options.disks = planned.disks;
        let operation = {
            let _allocation = lock(&self.journal.allocation);
            self.volumes.expect_free(&row.instance, &[])?;
            self.expect_free_blocks(&row.instance, &[])?;
            self.open_plug(&mut row, &key)?
        };
        self.plug_part(&operation, row, &key, NewPart::Disk(file))
    }

    /// Takes a disk from an instance: a volume by its name or id, any disk by its serial number, a CD-ROM by the name
    /// of its image, a block device by its name. A volume keeps its data, and is no longer deleted with the instance.
    ///
    /// # Errors
    /// `not_found`; `invalid_state` if it runs, unless the disk was plugged into the running machine; `guest_keeps_device` if the
    /// guest does not let go of it within `patience`.
    pub fn detach_within(
        &self,
        key: &str,
        disk: &str,
        patience: Duration,
    ) -> Result<Instance, Refusal> {
        self.take_disk(key, disk, patience, |_| true)
    }

    /// The same in the usual time.
    ///
    /// # Errors
    /// As [`detach_within`](Self::detach_within).
    pub fn detach(&self, key: &str, disk: &str) -> Result<Instance, Refusal> {
        self.detach_within(key, disk, USUAL)
    }

    /// Takes a CD-ROM from a stopped instance, by its serial number or the name of its image.
    ///
    /// # Errors
    /// As [`detach`](Self::detach).
    pub fn eject(&self, key: &str, cdrom: &str) -> Result<Instance, Refusal> {
        self.take_disk(key, cdrom, USUAL, GuestDisk::is_cdrom)
    }

    /// Takes a block device from an instance, by its serial number, name or path.
    ///
    /// # Errors
    /// As [`detach`](Self::detach).
    pub fn detach_block(
        &self,
        key: &str,
        block: &str,
        patience: Duration,
    ) -> Result<Instance, Refusal> {
        self.take_disk(key, block, patience, |disk| disk.block().is_some())
    }

    fn take_disk(
        &self,
        key: &str,
        disk: &str,
        patience: Duration,
        is_meant: fn(&GuestDisk) -> bool,
    ) -> Result<Instance, Refusal> {
        let id = self.stored_instance(key)?.instance.id;
        let _turn = self.journal.turn_of(id)?;
        // First whether it has the disk: what a person means can be something else that a running machine has.
        let mut row = self.stored_instance(&id.to_string())?;
        let (volume, image) = self
            .store
            .read(|from| Ok((Volume::by_key(from, disk)?, StoredImage::by_name(from, disk)?)))?;
        let (volume, image) = (volume.map(|volume| volume.id), image.map(|image| image.id));
        let disks = &row.instance.options.disks;
        // The name of a volume can be the serial number of another one.
        let by_volume = disks
            .iter()
            .position(|one| is_meant(one) && volume.is_some() && one.volume() == volume);
        let by_image = || {
            let mut disks = disks.iter();
            disks.position(|one| is_meant(one) && image.is_some() && one.image() == image)
        };
        let by_serial = || disks.iter().position(|one| is_meant(one) && one.serial == disk);
        let by_block = || disks.iter().position(|one| is_meant(one) && is_block(one, disk));
        let position = by_volume.or_else(by_image).or_else(by_serial).or_else(by_block);
        let Some(position) = position else {
            let name = &row.instance.name;
            return Err(Refusal::new(
                Code::NotFound,
                format!("the instance {name:?} has no disk {disk:?}"),
                format!("`handover instance show {name}` shows its disks"),
            ));
        };
        if disks.get(position).is_some_and(|disk| disk.serial == ContainerBoot::UPPER) {
            return Err(invalid(
                format!(
                    "{disk:?} is the writable layer of the container image of {:?}",
                    row.instance.name
                ),
                "it goes with the instance; `handover instance rm` removes both",
            ));
        }
        let key = disks.get(position).map(|disk| (disk.key(), disk.port.is_some()));
        let Some((key, is_plugged)) = key else { return Ok(row.instance) };
        self.resolve_unknown(&mut row)?;
        if is_plugged {
            self.settle_devices(&mut row)?;
            if row.instance.options.place_of(&key).is_none() {
                // The guest has let go meanwhile.
                return Ok(row.instance);
            }
            if runs(&row.instance) {
                return self.unplug_part(row, &key, patience);
            }
        }
        let mut row = self.stopped_for_disks(id)?;
        let volume = forget_part(&mut row.instance.options, &key);
        let _allocation = lock(&self.journal.allocation);
        self.store.write(Durability::Power, |tx| record_without(tx, &row, volume))?;
        self.journal.notify();
        Ok(row.instance)
    }

    /// Ends what was interrupted while volumes were made or deleted. Returns notes.
    pub(crate) fn recover_volumes(&self) -> Result<Vec<String>, Refusal> {
        self.volumes.recover()
    }

    fn stopped_for_disks(&self, id: Uuid) -> Result<StoredInstance, Refusal> {
        let mut row = self.stored_instance(&id.to_string())?;
        self.resolve_unknown(&mut row)?;
        if !matches!(row.instance.state, InstanceState::Stopped | InstanceState::Shutdown) {
            let stop = format!(
                "stop it first: `handover instance stop {}`; a running machine loses only disks that it got while it ran",
                row.instance.name
            );
            return Err(wrong_state(&row, "given or taken this disk", stop));
        }
        Ok(row)
    }
}

/// Whether a disk of Handover's own can have this serial number.
fn is_own(serial: &str) -> bool {
    serial == SEED || serial.starts_with(ContainerBoot::PREFIX)
}

/// A volume that is made with an instance.
pub(super) fn new_volume(instance: &Instance, name: String, file: NewVolume) -> Volume {
    Volume {
        id: Uuid::new_v4(),
        name,
        size: file.size,
        format: file.format,
        allocated: file.allocate,
        made_with: Some(instance.id),
        created_at: Timestamp::now(),
        tags: std::collections::BTreeMap::new(),
    }
}

/// The serial number of a block device, if none is asked for: its name, if that can be one.
fn block_serial(path: &Path, taken: &[GuestDisk]) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_free = |name: &str| taken.iter().all(|disk| disk.serial != name);
    if is_serial(name) && !is_own(name) && is_free(name) {
        return name.to_owned();
    }
    free_serial("disk", taken)
}

/// The first of `disk1`, `disk2`, ... that no disk has.
fn free_serial(prefix: &str, taken: &[GuestDisk]) -> String {
    let serials = (1..=taken.len() + 1).map(|number| format!("{prefix}{number}"));
    let is_free = |serial: &String| taken.iter().all(|disk| disk.serial != *serial);
    serials.into_iter().find(is_free).unwrap_or_else(|| prefix.to_owned())
}

/// Checks that the machine has a place for each disk.
fn expect_places(disks: &[GuestDisk]) -> Result<(), Refusal> {
    if disks.len() > MOST_DISKS {
        return Err(invalid(
            format!("{} disks besides the root disk, more than {MOST_DISKS}", disks.len()),
            "use fewer, larger disks",
        ));
    }
    let sata = disks.iter().filter(|disk| disk.bus == DiskBus::Sata).count();
    if sata > DiskBus::SATA_PORTS {
        return Err(invalid(
            format!(
                "{sata} disks and CD-ROMs are connected by sata, which has {} ports",
                DiskBus::SATA_PORTS
            ),
            "connect disks by virtio, scsi or nvme",
        ));
    }
    Ok(())
}

/// Checks that no two disks are mounted at the same directory.
fn expect_mounts(disks: &[GuestDisk]) -> Result<(), Refusal> {
    let mut paths = std::collections::BTreeSet::new();
    for path in disks.iter().filter_map(|disk| disk.mount_path.as_deref()) {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if !paths.insert(parts) {
            return Err(invalid(
                format!("two disks are to be mounted at {path}"),
                "give each disk a directory of its own",
            ));
        }
    }
    Ok(())
}

/// Checks a path at which a guest mounts a disk.
fn check_mount_path(path: &str) -> Result<(), Refusal> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    let is_path = path.starts_with('/') && path != "/" && !path.contains(is_odd);
    if is_path && path.len() <= LONGEST_MOUNT_PATH && !path.split('/').any(|part| part == "..") {
        return Ok(());
    }
    Err(invalid(
        format!("{path:?} is not a directory at which a guest can mount a disk"),
        "use an absolute path without spaces, such as /data",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(serial: &str, bus: DiskBus) -> GuestDisk {
        let content = DiskContent::Volume(Uuid::new_v4());
        let serial = serial.into();
        GuestDisk { content, bus, serial, read_only: false, mount_path: None, port: None }
    }

    #[test]
    fn a_free_serial_number_is_the_first_one_that_no_disk_has() {
        assert_eq!(free_serial("disk", &[]), "disk1");
        let disks = [disk("disk2", DiskBus::Virtio), disk("disk1", DiskBus::Scsi)];
        assert_eq!(free_serial("disk", &disks), "disk3");
        assert_eq!(free_serial("cd", &disks), "cd1");
    }

    #[test]
    fn places_are_counted() {
        let many = |count, bus| (0..count).map(|_| disk("a", bus)).collect::<Vec<_>>();
        assert!(expect_places(&many(6, DiskBus::Sata)).is_ok());
        assert!(expect_places(&many(7, DiskBus::Sata)).is_err());
        assert!(expect_places(&many(32, DiskBus::Virtio)).is_ok());
        assert!(expect_places(&many(33, DiskBus::Virtio)).is_err());
    }

    #[test]
    fn a_mount_path_is_absolute_and_plain() {
        for good in ["/data", "/srv/my-data", "/mnt/ä"] {
            assert!(check_mount_path(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "data", "/a b", "/a/../b", "/a\nb"] {
            assert!(check_mount_path(bad).is_err(), "{bad:?}");
        }
    }
}
