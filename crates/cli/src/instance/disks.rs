//! The disks of an instance on the command line.

use std::collections::BTreeSet;

use api::{BlockDisk, Cdrom, CreateInstance, Instance as Machine, NewDisk, VolumeMount};
use clap::Args;

use crate::values;

/// The disks of a new instance besides its root disk.
#[derive(Debug, Args)]
pub struct Disks {
    /// New disk (repeatable), deleted with the instance: 20GB, or 20GB,bus=nvme,serial=scratch,mount=/data,format=qcow2,allocate
    #[arg(long = "disk", value_name = "SIZE[,OPTION...]", value_parser = new_disk)]
    disks: Vec<NewDisk>,
    /// Volume (repeatable), as `handover volume list` shows it: data, or data,ro,bus=scsi,serial=data,mount=/srv
    #[arg(long = "volume", value_name = "NAME[,OPTION...]", value_parser = volume)]
    volumes: Vec<VolumeMount>,
    /// Block device of the host (repeatable) below a --block-dir of the daemon: ata-WDC_1, or
    /// ata-WDC_1,ro,bus=scsi,serial=data,mount=/srv,allow-data
    #[arg(long = "block", value_name = "NAME[,OPTION...]", value_parser = block)]
    blocks: Vec<BlockDisk>,
    /// Image of a CD-ROM (repeatable), which is booted before the disks; without --image there is no root disk
    #[arg(long = "cdrom", value_name = "IMAGE")]
    cdroms: Vec<String>,
}

impl Disks {
    /// Adds the disks to a request.
    pub fn fill(self, request: &mut CreateInstance) {
        let cdroms: Vec<Cdrom> =
            self.cdroms.into_iter().map(|image| Cdrom { image, serial: None }).collect();
        request.disks = some(self.disks);
        request.volumes = some(self.volumes);
        request.blocks = some(self.blocks);
        request.cdroms = some(cdroms);
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The options after a disk: `bus=nvme,serial=scratch`.
#[derive(Default)]
struct Options {
    bus: Option<String>,
    serial: Option<String>,
    mount: Option<String>,
    format: Option<String>,
    allocate: bool,
    read_only: bool,
    allow_data: bool,
}

/// Splits a disk into what it is and its options.
fn options<'a>(text: &'a str, known: &[&str]) -> Result<(&'a str, Options), String> {
    let mut words = text.split(',');
    let what = words.next().unwrap_or_default();
    let mut options = Options::default();
    let mut seen = BTreeSet::new();
    for word in words {
        let (name, value) =
            word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let unknown = || format!("unknown option {word:?} of a disk; use {}", known.join(", "));
        if !known.iter().any(|known| known.trim_end_matches('=') == name) {
            return Err(unknown());
        }
        if !seen.insert(name) {
            return Err(format!("the option {name:?} of a disk is given twice"));
        }
        let value = value.map(str::to_owned);
        match (name, value) {
            ("bus", Some(value)) => options.bus = Some(value),
            ("serial", Some(value)) => options.serial = Some(value),
            ("mount", Some(value)) => options.mount = Some(value),
            ("format", Some(value)) => options.format = Some(value),
            ("allocate", None) => options.allocate = true,
            ("ro", None) => options.read_only = true,
            ("allow-data", None) => options.allow_data = true,
            _ => return Err(unknown()),
        }
    }
    Ok((what, options))
}

/// Reads a new disk: `20GB,bus=nvme`.
fn new_disk(text: &str) -> Result<NewDisk, String> {
    let (size, options) = options(text, &["bus=", "serial=", "mount=", "format=", "allocate"])?;
    Ok(NewDisk {
        size: values::size_text(size)?,
        format: options.format,
        allocate: options.allocate.then_some(true),
        bus: options.bus,
        serial: options.serial,
        mount_path: options.mount,
    })
}

/// Reads a volume: `data,ro`.
fn volume(text: &str) -> Result<VolumeMount, String> {
    let (name, options) = options(text, &["ro", "bus=", "serial=", "mount="])?;
    if name.is_empty() {
        return Err("expected the name of a volume, such as data or data,ro".into());
    }
    Ok(VolumeMount {
        volume_id: name.to_owned(),
        mount_path: options.mount.unwrap_or_default(),
        readonly: options.read_only,
        bus: options.bus,
        serial: options.serial,
        ..VolumeMount::default()
    })
}

/// Reads a block device of the host: `ata-WDC_1,ro`.
fn block(text: &str) -> Result<BlockDisk, String> {
    let known = ["ro", "bus=", "serial=", "mount=", "allow-data"];
    let (name, options) = options(text, &known)?;
    if name.is_empty() {
        return Err("expected the name of a block device, such as ata-WDC_1 or ata-WDC_1,ro".into());
    }
    Ok(BlockDisk {
        device: name.to_owned(),
        bus: options.bus,
        serial: options.serial,
        readonly: options.read_only.then_some(true),
        mount_path: options.mount,
        allow_data: options.allow_data.then_some(true),
        size: None,
    })
}

/// The disks of an instance besides its root disk, a line each: `data (20GB, virtio, serial data, read-only)`.
pub fn lines(machine: &Machine) -> Vec<String> {
    let volumes = machine.volumes.iter().map(|volume| {
        let name = volume.name.clone().unwrap_or_else(|| volume.volume_id.clone());
        let mount = Some(volume.mount_path.as_str());
        let size = volume.size.clone();
        line(&name, size, volume.bus.as_ref(), volume.serial.as_ref(), volume.readonly, mount)
    });
    let blocks = machine.blocks.iter().map(|block| {
        let size = block.size.clone().unwrap_or_else(|| "missing on the host now".to_owned());
        let read_only = block.readonly.unwrap_or_default();
        let (bus, serial) = (block.bus.as_ref(), block.serial.as_ref());
        line(&block.device, Some(size), bus, serial, read_only, block.mount_path.as_deref())
    });
    let cdroms = machine.cdroms.iter().map(|cdrom| {
        let serial = cdrom.serial.as_ref().map(|serial| format!(", serial {serial}"));
        format!("{} (CD-ROM{})", cdrom.image, serial.unwrap_or_default())
    });
    volumes.chain(blocks).chain(cdroms).collect()
}

fn line(
    name: &str,
    size: Option<String>,
    bus: Option<&String>,
    serial: Option<&String>,
    read_only: bool,
    mount: Option<&str>,
) -> String {
    let details = [
        size,
        bus.cloned(),
        serial.map(|serial| format!("serial {serial}")),
        read_only.then(|| "read-only".to_owned()),
        mount.filter(|path| !path.is_empty()).map(|path| format!("mounted at {path}")),
    ];
    let details: Vec<String> = details.into_iter().flatten().collect();
    format!("{name} ({})", details.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_disk_has_a_size_and_options() {
        let disk = new_disk("20GB,bus=nvme,serial=scratch,mount=/data,format=qcow2").unwrap();
        assert_eq!((disk.size.as_str(), disk.bus.as_deref()), ("20GB", Some("nvme")));
        assert_eq!(disk.serial.as_deref(), Some("scratch"));
        assert_eq!(disk.mount_path.as_deref(), Some("/data"));
        assert_eq!((disk.format.as_deref(), disk.allocate), (Some("qcow2"), None));
        assert_eq!(new_disk("1GB,allocate").unwrap().allocate, Some(true));
        for wrong in ["", "big", "1GB,ro", "1GB,bus", "1GB,allocate=yes", "1GB,", "1GB,colour=red"]
        {
            assert!(new_disk(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_block_device_has_a_name_and_options() {
        let disk = block("ata-WDC_1,ro,bus=scsi,serial=a,mount=/srv,allow-data").unwrap();
        assert_eq!((disk.device.as_str(), disk.bus.as_deref()), ("ata-WDC_1", Some("scsi")));
        assert_eq!((disk.readonly, disk.allow_data), (Some(true), Some(true)));
        assert_eq!(block("/dev/disk/by-id/a").unwrap().allow_data, None);
        for wrong in ["", ",ro", "a,rw", "a,format=raw"] {
            assert!(block(wrong).is_err(), "{wrong}");
        }
        for twice in ["a,ro,ro", "a,bus=scsi,bus=nvme", "a,allow-data,allow-data"] {
            assert!(block(twice).unwrap_err().ends_with("is given twice"), "{twice}");
        }
    }

    #[test]
    fn a_volume_has_a_name_and_options() {
        let mount = volume("data,ro,mount=/srv").unwrap();
        assert_eq!((mount.volume_id.as_str(), mount.readonly), ("data", true));
        assert_eq!(mount.mount_path, "/srv");
        let error = volume("data,rw").unwrap_err();
        assert_eq!(error, "unknown option \"rw\" of a disk; use ro, bus=, serial=, mount=");
        assert!(volume(",ro").is_err());
    }
}
