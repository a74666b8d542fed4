//! Creating an instance: it runs afterwards, or all changes are rolled back.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use model::choose::Want;
use model::{Code, Inventory, Life, MachineOptions, Refusal, Topology, check_instance_name};
use uuid::Uuid;

use super::disks::Planned;
use super::guest_buses::expect_own_buses;
use super::options::WantedOptions;
use super::{Instances, too_large};
use crate::images::expect_ready;
use crate::lock::lock;
use crate::refusals::{self, interrupted, with_failed_undo};
use crate::registrations;
use crate::store::{OpenOperation, StoredClaim, StoredDevice, StoredImage, StoredInstance};
use crate::{
    CreateInstance, DeviceWish, Instance, InstanceGpu, InstanceState, NetworkWish, OperationKind,
    Outcome, Volume, WantedContent,
};

const DEFAULT_MEMORY: u64 = 1 << 30;
const MIN_MEMORY: u64 = 1 << 20;
/// A number up to this, without a unit, is one of megabytes.
const MAX_BARE: u64 = 65_536;
const DEFAULT_VCPUS: u32 = 2;
const MAX_VCPUS: u32 = 1024;
const MAX_DISK: u64 = 16 << 40;

/// A new instance that is checked and chosen, and not recorded yet.
pub(super) struct Draft {
    pub row: StoredInstance,
    pub claims: Vec<StoredClaim>,
    pub inventory: Inventory,
    pub planned: Planned,
}

impl Instances {
    /// Creates an instance and returns when it runs.
    ///
    /// # Errors
    /// Any. Changes are rolled back; the error says if that failed.
    pub fn create(&self, request: CreateInstance) -> Result<Instance, Refusal> {
        let id = Uuid::new_v4();
        let Draft { mut row, claims, inventory, planned } = self.draft(id, request)?;
        let _turn = self.journal.turns.take(id);
        let operation = self.reserve(&mut row, &claims, &inventory, &planned)?;
        self.bring_up_or_undo(&operation, row, |cause| {
            self.undo_create(&operation, cause, self.journal.worker_wait())
        })
    }

    /// Checks a request, and chooses what its instance gets. Nothing is reserved.
    pub(super) fn draft(&self, id: Uuid, request: CreateInstance) -> Result<Draft, Refusal> {
        let image = self.check(&request)?;
        let run = self.container_run(&request, &image)?;
        let is_without_root = request.image.is_none();
        let disks = request.disks.clone();
        let wants = self.wanted_devices(&request.devices)?;
        let take_display = request.seat.take_display;
        let (claims, inventory) = self.claims.choose_for_instance(id, &wants, &[], take_display)?;
        expect_own_buses(claims.iter())?;
        let wanted = WantedOptions::of(&request);
        let roms = self.roms(&request.roms, &claims)?;
        let life = Life {
            autostart: self.autostart_from_next_boot(request.life.autostart.clone()),
            ..request.life.clone()
        };
        let vcpus = vcpus(&request)?;
        let mut row = self.row(id, request, &image, &claims, vcpus);
        row.instance.options.is_without_root = is_without_root;
        let mut planned = self.plan_disks(&row.instance, &disks)?;
        if run.is_some() {
            self.plan_layer(&row.instance, &mut planned)?;
        }
        row.instance.options.container = run;
        row.instance.options = self.options(&row.instance, &image, wanted, &planned)?;
        row.instance.options.life = life;
        row.instance.options.roms = roms;
        Ok(Draft { row, claims, inventory, planned })
    }

    /// What a person should know about a new instance: what works, but probably not as intended.
    #[must_use]
    pub fn advice(&self, instance: &Instance, network: &NetworkWish) -> Vec<String> {
        let mut advice = Vec::new();
        if let Ok(host) = self.hardware.host.capacity()
            && instance.vcpus > host.cpus
        {
            advice.push(format!(
                "the instance has {} virtual CPUs and the host only {} CPUs: the machine will be slow; create it with fewer",
                instance.vcpus, host.cpus
            ));
        }
        advice.extend(self.driver_advice(instance));
        if *network == NetworkWish::Usual && instance.options.cards.is_empty() {
            let why = self.why_no_network(&instance.hypervisor).unwrap_or_default();
            advice.push(format!("the instance has no network card: {why}"));
        }
        advice
    }

    /// Checks everything that does not depend on devices.
    fn check(&self, request: &CreateInstance) -> Result<StoredImage, Refusal> {
        check_instance_name(&request.name)?;
        let vcpus = vcpus(request)?;
        let memory = request.memory.unwrap_or(DEFAULT_MEMORY);
        self.usable_launcher(request.hypervisor.as_deref().unwrap_or(self.default_launcher()))?;
        self.check_size(vcpus, memory)?;
        if self.store.read(|from| StoredInstance::by_key(from, &request.name))?.is_some() {
            return Err(name_taken(&request.name));
        }
        let Some(name) = &request.image else { return self.cdrom_to_boot(request) };
        let image = self.images.stored(name)?;
        expect_usable(&image, request.overlay_size)?;
        Ok(image)
    }

    /// The image of the first CD-ROM, which a machine without a root disk boots.
    fn cdrom_to_boot(&self, request: &CreateInstance) -> Result<StoredImage, Refusal> {
        let mut images = request.disks.iter().filter_map(|wish| match &wish.content {
            WantedContent::Cdrom(name) => Some(name),
            WantedContent::New(_) | WantedContent::Volume(_) | WantedContent::Block { .. } => None,
        });
        let Some(name) = images.next() else {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "neither an image nor a CD-ROM to boot from is given",
                "give the name of an image (`handover image list`), or an image as a CD-ROM",
            ));
        };
        if request.overlay_size.is_some() {
            return Err(Refusal::new(
                Code::InvalidSize,
                "the machine has no root disk, so that cannot have a size",
                "leave the disk size out, and add a disk of that size",
            ));
        }
        self.cdrom_image(name)
    }

    /// Checks the processors and the memory of a machine.
    pub(super) fn check_size(&self, vcpus: u32, memory: u64) -> Result<(), Refusal> {
        if !(1..=MAX_VCPUS).contains(&vcpus) {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!("a machine cannot have {vcpus} virtual CPUs"),
                format!("ask for 1 to {MAX_VCPUS}"),
            ));
        }
        if memory < MIN_MEMORY {
            return Err(Refusal::new(
                Code::InvalidSize,
                format!("a machine cannot have {} of memory", model::shown::bytes(memory)),
                match memory {
                    1..=MAX_BARE => {
                        format!("did you mean {memory}MB? A size without a unit is in bytes")
                    }
                    _ => "ask for 1MB or more, such as 1GB".to_owned(),
                },
            ));
        }
        let there = self.host_memory()?;
        if memory > there {
            return Err(too_large(memory, there));
        }
        Ok(())
    }

    /// The wants of a request, with registered devices by their addresses.
    pub(super) fn wanted_devices(&self, wishes: &[DeviceWish]) -> Result<Vec<Want>, Refusal> {
        let mut seen = BTreeSet::new();
        let mut wants = Vec::new();
        for wish in wishes {
            let key = match wish {
                DeviceWish::Registered(key) => key,
                DeviceWish::Wanted(want) => {
                    want.check()?;
                    wants.push(want.clone());
                    continue;
                }
            };
            let device = registrations::find(&self.store, key)?;
            if !seen.insert(device.id) {
                return Err(Refusal::new(
                    Code::InvalidRequest,
                    format!("the device {:?} is listed twice", device.name),
                    "list each device once",
                ));
            }
            wants.push(Want::device(device.address));
        }
        Ok(wants)
    }

    fn row(
        &self,
        id: Uuid,
        request: CreateInstance,
        image: &StoredImage,
        claims: &[StoredClaim],
        vcpus: u32,
    ) -> StoredInstance {
        StoredInstance {
            image_id: image.id,
            machine: None,
            instance: Instance {
                id,
                name: request.name,
                image: image.image.name.clone(),
                state: InstanceState::Initializing,
                state_error: None,
                vcpus,
                memory: request.memory.unwrap_or(DEFAULT_MEMORY),
                overlay_size: request.overlay_size,
                hypervisor: request.hypervisor.unwrap_or_else(|| self.default_launcher().into()),
                uid: self.config.machine_uids.start,
                cmdline: request.cmdline,
                devices: claims.iter().filter_map(|claim| claim.device).collect(),
                gpu: gpu(claims),
                options: MachineOptions::default(),
                pid: None,
                exit_code: None,
                created_at: Timestamp::now(),
                started_at: None,
                stopped_at: None,
                tags: request.tags,
            },
        }
    }

    /// Checks name, image, user ids and claims again under the allocation lock, and records the instance.
    fn reserve(
        &self,
        row: &mut StoredInstance,
        claims: &[StoredClaim],
        inventory: &Inventory,
        planned: &Planned,
    ) -> Result<OpenOperation, Refusal> {
        // Slow disks keep no one from allocating.
        let new_volumes = &planned.new;
        let made = self.volumes.make_formatted(new_volumes, &planned.formatted)?;
        let _allocation = lock(&self.journal.allocation);
        for claim in claims {
            self.claims.expect_available(&claim.claim, &[])?;
        }
        self.claims.expect_room(inventory, claims.iter().map(|stored| &stored.claim))?;
        let (taken, image, devices, uids) = self.store.read(|from| {
            Ok((
                StoredInstance::by_key(from, &row.instance.name)?.is_some(),
                StoredImage::by_name(from, &row.instance.image)?,
                StoredDevice::all(from)?,
                StoredInstance::uids(from)?,
            ))
        })?;
        if taken {
            return Err(name_taken(&row.instance.name));
        }
        if image.is_none_or(|image| image.id != row.image_id) {
            return Err(refusals::no_such("image", &row.instance.image, "handover image list"));
        }
        for id in &row.instance.devices {
            if !devices.iter().any(|device| device.id == *id) {
                return Err(refusals::no_such("device", &id.to_string(), "handover device list"));
            }
        }
        // A machine that no instance has can still run: it must not share its user.
        let known = self.launchers.iter().flat_map(|launcher| launcher.machines());
        let known: BTreeSet<u32> = known.filter_map(|machine| machine.uid).collect();
        let mut range = self.config.machine_uids.clone();
        let free = range.find(|uid| !uids.contains(uid) && !known.contains(uid));
        row.instance.uid = free.ok_or_else(|| {
            Refusal::new(
                Code::InsufficientResources,
                "no free user id: each machine needs its own, and the configured range is used up",
                "delete an instance, or configure a larger range",
            )
        })?;
        self.reserve_network(&mut row.instance)?;
        self.reserve_screen(&mut row.instance)?;
        self.volumes.expect_free(&row.instance, new_volumes)?;
        self.expect_free_blocks(&row.instance, claims)?;
        let id = row.instance.id;
        let operation = self.journal.open_operation(OperationKind::Create, id, |tx| {
            row.insert(tx)?;
            new_volumes.iter().try_for_each(|volume| volume.insert(tx))?;
            claims.iter().try_for_each(|claim| claim.insert(tx))
        })?;
        made.keep();
        Ok(operation)
    }

    /// Rolls back a create that failed or was interrupted, and removes the instance. If its files cannot be removed,
    /// the instance stays, so that it can be deleted.
    pub(crate) fn undo_create(
        &self,
        operation: &OpenOperation,
        cause: &Refusal,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        let id = operation.subject;
        let Some(mut row) = self.store.read(|from| StoredInstance::by_id(from, id))? else {
            self.journal.close_operation(
                operation,
                Outcome::Undone,
                Some(&cause.message),
                |_| Ok(()),
            )?;
            return Ok(Vec::new());
        };
        let outcome = match self.bring_down(operation, &row, None, patience) {
            Ok(outcome) => outcome,
            Err(undo) => {
                self.close_unknown(operation, &mut row, &undo)?;
                return Err(undo);
            }
        };
        self.give_back_usb(&mut row)?;
        // Even if no step recorded files: a power loss can lose the record of the step but keep the files.
        if let Err(undo) = self.remove_files(operation, &row) {
            self.keep_stopped(operation, &mut row, &with_failed_undo(cause, &undo))?;
            return Err(undo);
        }
        let made = self.store.read(|from| Volume::made_with(from, id))?;
        self.volumes.condemn(&made);
        let notes = self.claims.close_undone(operation, cause, outcome, |tx| {
            StoredClaim::release_instance(tx, id)?;
            made.iter().try_for_each(|volume| Volume::delete(tx, volume.id))?;
            StoredInstance::delete(tx, id)
        })?;
        self.volumes.discard(&made);
        Ok(notes)
    }

    /// The same at recovery.
    pub(crate) fn recover_create(
        &self,
        operation: &OpenOperation,
        patience: Duration,
    ) -> Result<Vec<String>, Refusal> {
        self.undo_create(operation, &interrupted(OperationKind::Create), patience)
    }
}

/// The first vGPU of an instance.
pub(super) fn gpu(claims: &[StoredClaim]) -> Option<InstanceGpu> {
    claims.iter().find_map(|claim| {
        let profile = claim.profile()?.to_owned();
        let mut parts = claim.claim.parts.iter();
        let mdev = parts.find_map(|part| part.partition.as_ref()?.mdev());
        Some(InstanceGpu { profile, mdev })
    })
}

/// The number of processors: as asked, or as the topology says.
fn vcpus(request: &CreateInstance) -> Result<u32, Refusal> {
    Ok(arranged(request.vcpus, request.cpu.topology)?.unwrap_or(DEFAULT_VCPUS))
}

/// The same; `None` if neither is given.
pub(super) fn arranged(
    asked: Option<u32>,
    topology: Option<Topology>,
) -> Result<Option<u32>, Refusal> {
    match (asked, topology) {
        (asked, None) => Ok(asked),
        (Some(asked), Some(topology)) if topology.vcpus() != asked => Err(Refusal::new(
            Code::InvalidRequest,
            format!(
                "{} of {} of {} are {} virtual CPUs, and {asked} are asked for",
                counted(topology.sockets, "socket"),
                counted(topology.cores, "core"),
                counted(topology.threads, "thread"),
                topology.vcpus()
            ),
            "leave the number out, or correct it",
        )),
        (_, Some(topology)) => Ok(Some(topology.vcpus())),
    }
}

fn counted(number: u32, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

fn name_taken(name: &str) -> Refusal {
    Refusal::new(
        Code::NameConflict,
        format!("an instance named {name:?} already exists"),
        format!("choose another name, or run `handover instance rm {name}` first"),
    )
}

fn expect_usable(image: &StoredImage, overlay: Option<u64>) -> Result<(), Refusal> {
    expect_ready(image)?;
    let name = &image.image.name;
    if overlay.is_some() && image.image.disk_format.is_none() && image.image.container.is_none() {
        return Err(Refusal::new(
            Code::InvalidSize,
            format!("the image {name:?} has no disk, so its disk cannot have a size"),
            "leave the disk size out, or use an image with a disk",
        ));
    }
    match (overlay, image.virtual_size) {
        (Some(asked), _) if asked > MAX_DISK => Err(Refusal::new(
            Code::InvalidSize,
            format!("a disk cannot have {}", model::format_size(asked)),
            format!("ask for {} or less", model::format_size(MAX_DISK)),
        )),
        (Some(asked), Some(least)) if asked < least => Err(Refusal::new(
            Code::InvalidSize,
            format!(
                "the disk of the image {name:?} has {}, more than the requested {}",
                model::shown::bytes(least),
                model::shown::bytes(asked)
            ),
            format!("ask for {least}B or more, or leave the disk size out"),
        )),
        _ => Ok(()),
    }
}
