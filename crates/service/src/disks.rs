//! The disks of instances besides their root disks: reads requests, and shows them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::{AttachVolume, BlockDisk, Cdrom, NewDisk, VolumeMount};
use engine::{DiskWish, Engine, Instance, NewVolume, Volume, WantedContent};
use model::{
    DiskBus, DiskContent, DiskFormat, GuestDisk, HostBlock, Refusal, format_size, parse_size,
};
use uuid::Uuid;

use crate::images::disk_format;
use crate::refusals::{invalid, not_implemented};

/// The disks that a creation asks for, in the order in which the guest sees them.
pub fn wishes(
    disks: Option<Vec<NewDisk>>,
    volumes: Option<Vec<VolumeMount>>,
    blocks: Option<Vec<BlockDisk>>,
    cdroms: Option<Vec<Cdrom>>,
) -> Result<Vec<DiskWish>, Refusal> {
    let blocks = blocks.unwrap_or_default().into_iter().map(block);
    let disks = disks.unwrap_or_default().into_iter().map(new_disk);
    let volumes = volumes.unwrap_or_default().into_iter().map(volume);
    let cdroms = cdroms.unwrap_or_default().into_iter().map(|one| Ok(cdrom(one)));
    disks.chain(volumes).chain(blocks).chain(cdroms).collect()
}

fn new_disk(disk: NewDisk) -> Result<DiskWish, Refusal> {
    let size = parse_size(&disk.size)?;
    let file = new_file(size, disk.format.as_deref(), disk.allocate)?;
    Ok(DiskWish {
        content: WantedContent::New(file),
        bus: disk.bus.as_deref().map(bus).transpose()?,
        serial: disk.serial,
        read_only: false,
        mount_path: disk.mount_path,
    })
}

/// The file of a new volume.
pub fn new_file(
    size: u64,
    format: Option<&str>,
    allocate: Option<bool>,
) -> Result<NewVolume, Refusal> {
    let format = format.map_or(Ok(DiskFormat::Raw), |text| disk_format(Some(text)))?;
    Ok(NewVolume { size, format, allocate: allocate.unwrap_or_default() })
}

fn volume(mount: VolumeMount) -> Result<DiskWish, Refusal> {
    if mount.overlay == Some(true) {
        return Err(not_implemented(
            "a layer of an instance's own over a volume (`overlay`)",
            "leave `overlay` out, and share the volume with `readonly`",
        ));
    }
    Ok(DiskWish {
        content: WantedContent::Volume(mount.volume_id),
        bus: mount.bus.as_deref().map(bus).transpose()?,
        serial: mount.serial,
        read_only: mount.readonly,
        mount_path: Some(mount.mount_path),
    })
}

/// A volume for an instance that exists.
pub fn attachment(volume: String, how: AttachVolume) -> Result<DiskWish, Refusal> {
    Ok(DiskWish {
        content: WantedContent::Volume(volume),
        bus: how.bus.as_deref().map(bus).transpose()?,
        serial: how.serial,
        read_only: how.readonly.unwrap_or_default(),
        mount_path: how.mount_path,
    })
}

/// A block device of the host.
pub fn block(wanted: BlockDisk) -> Result<DiskWish, Refusal> {
    Ok(DiskWish {
        content: WantedContent::Block {
            name: wanted.device,
            allow_data: wanted.allow_data.unwrap_or_default(),
        },
        bus: wanted.bus.as_deref().map(bus).transpose()?,
        serial: wanted.serial,
        read_only: wanted.readonly.unwrap_or_default(),
        mount_path: wanted.mount_path,
    })
}

/// A block device of an instance, as it was asked for.
pub fn shown_block(disk: &GuestDisk, block: &HostBlock) -> BlockDisk {
    BlockDisk {
        device: block.path.to_string_lossy().into_owned(),
        bus: Some(disk.bus.as_str().to_owned()),
        serial: Some(disk.serial.clone()),
        readonly: disk.read_only.then_some(true),
        mount_path: disk.mount_path.clone(),
        allow_data: block.allow_data.then_some(true),
        size: None,
    }
}

/// A CD-ROM.
pub fn cdrom(wanted: Cdrom) -> DiskWish {
    DiskWish {
        content: WantedContent::Cdrom(wanted.image),
        bus: None,
        serial: wanted.serial,
        read_only: true,
        mount_path: None,
    }
}

fn bus(name: &str) -> Result<DiskBus, Refusal> {
    DiskBus::ALL.into_iter().find(|bus| bus.as_str() == name).ok_or_else(|| {
        let names = DiskBus::ALL.map(DiskBus::as_str).join(", ");
        invalid(format!("{name:?} is no bus of a disk"), format!("use one of {names}"))
    })
}

/// The disks of an instance besides its root disk, as answers show them.
#[derive(Debug, Default)]
pub struct ShownDisks {
    pub volumes: Vec<VolumeMount>,
    pub blocks: Vec<BlockDisk>,
    pub cdroms: Vec<Cdrom>,
}

/// What names the disks of instances.
#[derive(Debug, Default)]
pub struct KnownDisks {
    volumes: BTreeMap<Uuid, Volume>,
    images: BTreeMap<Uuid, String>,
    /// The sizes of the block devices that the host has now.
    blocks: BTreeMap<PathBuf, u64>,
}

impl KnownDisks {
    /// What names the disks of these instances.
    pub fn of(engine: &Engine, instances: &[Instance]) -> Result<Self, Refusal> {
        if instances.iter().all(|instance| instance.options.disks.is_empty()) {
            return Ok(Self::default());
        }
        let disks = instances.iter().flat_map(|instance| &instance.options.disks);
        let size = |block: &HostBlock| {
            let device = engine.instances().block_device(&block.path.to_string_lossy()).ok()?;
            Some((block.path.clone(), device.size))
        };
        let blocks = disks.filter_map(GuestDisk::block).filter_map(size).collect();
        Ok(Self { volumes: engine.volumes().by_id()?, images: engine.images().names()?, blocks })
    }

    /// The disks of an instance besides its root disk.
    pub fn shown(&self, instance: &Instance) -> ShownDisks {
        let mut shown = ShownDisks::default();
        for disk in &instance.options.disks {
            let serial = Some(disk.serial.clone());
            match &disk.content {
                DiskContent::Block(block) => {
                    let size = self.blocks.get(&block.path).copied().map(format_size);
                    shown.blocks.push(BlockDisk { size, ..shown_block(disk, block) });
                }
                DiskContent::Cdrom(id) => {
                    let image = self.images.get(id).cloned().unwrap_or_else(|| id.to_string());
                    shown.cdroms.push(Cdrom { image, serial });
                }
                DiskContent::Volume(id) => {
                    let known = self.volumes.get(id);
                    shown.volumes.push(VolumeMount {
                        volume_id: id.to_string(),
                        mount_path: disk.mount_path.clone().unwrap_or_default(),
                        readonly: disk.read_only,
                        overlay: None,
                        bus: Some(disk.bus.as_str().to_owned()),
                        serial,
                        name: known.map(|volume| volume.name.clone()),
                        size: known.map(|volume| format_size(volume.size)),
                    });
                }
            }
        }
        shown
    }
}
