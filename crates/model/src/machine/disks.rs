//! The disks of a machine besides its root disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BlockFile, DiskFormat, HostBlock, PartKey};
use crate::{Code, Refusal};

/// The longest serial number: what virtio, ATA and NVMe disks can show (VIRTIO 1.2, 5.2.6.1; ATA8-ACS, 7.16.7.10).
const LONGEST_SERIAL: usize = 20;

/// A disk of a machine besides its root disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDisk {
    /// What it shows to the guest.
    pub content: DiskContent,
    /// How it is connected.
    pub bus: DiskBus,
    /// Its serial number, by which a guest finds it: `/dev/disk/by-id/virtio-SERIAL`.
    pub serial: String,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
    /// Where a guest with cloud-init mounts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
    /// The port for devices that it is behind, if it was plugged into the running machine: it can leave again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

/// The content of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskContent {
    /// A volume.
    Volume(Uuid),
    /// An image, as a CD-ROM.
    Cdrom(Uuid),
    /// A block device of the host.
    Block(HostBlock),
}

impl GuestDisk {
    /// Whether it is a CD-ROM.
    #[must_use]
    pub const fn is_cdrom(&self) -> bool {
        matches!(self.content, DiskContent::Cdrom(_))
    }

    /// The volume, if it is one.
    #[must_use]
    pub const fn volume(&self) -> Option<Uuid> {
        match self.content {
            DiskContent::Volume(id) => Some(id),
            DiskContent::Cdrom(_) | DiskContent::Block(_) => None,
        }
    }

    /// The image in a CD-ROM.
    #[must_use]
    pub const fn image(&self) -> Option<Uuid> {
        match self.content {
            DiskContent::Cdrom(id) => Some(id),
            DiskContent::Volume(_) | DiskContent::Block(_) => None,
        }
    }

    /// The block device of the host, if it is one.
    #[must_use]
    pub const fn block(&self) -> Option<&HostBlock> {
        match &self.content {
            DiskContent::Block(block) => Some(block),
            DiskContent::Volume(_) | DiskContent::Cdrom(_) => None,
        }
    }

    /// What it is known by while it comes or leaves.
    #[must_use]
    pub fn key(&self) -> PartKey {
        PartKey::Disk(self.serial.clone())
    }

    /// The path at which Linux guests find it.
    #[must_use]
    pub fn guest_path(&self) -> String {
        format!("/dev/disk/by-id/{}{}", self.bus.udev_prefix(), self.serial)
    }
}

/// How a disk is connected to a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// A virtio block device: the fastest one.
    #[default]
    Virtio,
    /// A disk on a virtio SCSI controller.
    Scsi,
    /// An NVMe drive.
    Nvme,
    /// A disk on the machine's SATA controller, for guests without drivers for the others.
    Sata,
}

impl DiskBus {
    /// Every bus.
    pub const ALL: [Self; 4] = [Self::Virtio, Self::Scsi, Self::Nvme, Self::Sata];

    /// Whether a disk connected so can be plugged into a running machine, and leave it: it is a PCI device of its own.
    #[must_use]
    pub const fn is_hot_pluggable(self) -> bool {
        matches!(self, Self::Virtio | Self::Nvme)
    }

    /// How many disks and CD-ROMs the SATA controller has room for.
    pub const SATA_PORTS: usize = 6;

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Scsi => "scsi",
            Self::Nvme => "nvme",
            Self::Sata => "sata",
        }
    }

    /// What udev writes before the serial number of QEMU's disks (its rules `60-persistent-storage.rules`).
    const fn udev_prefix(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-",
            Self::Scsi => "scsi-0QEMU_QEMU_HARDDISK_",
            Self::Nvme => "nvme-QEMU_NVMe_Ctrl_",
            Self::Sata => "ata-QEMU_HARDDISK_",
        }
    }
}

/// Checks a serial number: 1 to 20 letters, digits, `_`, `.` and `-`.
///
/// # Errors
/// `invalid_request` with the rule.
pub fn check_serial(serial: &str) -> Result<(), Refusal> {
    if is_serial(serial) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        format!("{serial:?} is not a serial number of a disk"),
        format!("use up to {LONGEST_SERIAL} letters, digits, '_', '.' and '-'"),
    ))
}

/// Whether a text can be a disk's serial number.
#[must_use]
pub fn is_serial(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=LONGEST_SERIAL).contains(&text.len()) && text.bytes().all(allowed)
}

/// A disk of a machine to start, with its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFile {
    /// The disk.
    pub disk: GuestDisk,
    /// The file with its content.
    pub path: PathBuf,
    /// The file's format.
    pub format: DiskFormat,
    /// If it is a block device of the host: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<BlockFile>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_fits_every_bus() {
        for good in ["disk1", "a", "0123456789_.-ABCDEFG"] {
            assert!(check_serial(good).is_ok(), "{good}");
        }
        for bad in ["", "0123456789_.-ABCDEFGH", "a b", "a/b", "a,b", "ä"] {
            assert!(check_serial(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_guest_finds_a_disk_by_its_serial_number() {
        let content = DiskContent::Volume(Uuid::nil());
        let serial = "disk1".to_owned();
        let bus = DiskBus::Virtio;
        let disk =
            GuestDisk { content, bus, serial, read_only: false, mount_path: None, port: None };
        assert_eq!(disk.guest_path(), "/dev/disk/by-id/virtio-disk1");
        let text = serde_json::to_string(&disk).unwrap();
        assert_eq!(serde_json::from_str::<GuestDisk>(&text).unwrap(), disk, "{text}");
    }
}
