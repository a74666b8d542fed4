//! Block devices of the host, as disks of machines.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::shown::{bytes, escaped};
use crate::{Address, Code, Refusal};

/// Major and minor number of a device.
pub type BlockNumber = (u32, u32);

/// The longest name of a block device.
const LONGEST_NAME: usize = 1024;

/// A block device of the host that a machine has as a disk, by its name. Names below `/dev/disk/by-id` stay, `/dev/sda` can be another
/// disk after the next boot: so what tells the device from others is recorded too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostBlock {
    /// The whole path of its name, below a directory of block devices: `/dev/disk/by-id/ata-WDC_1`.
    pub path: PathBuf,
    /// Whether data on it was accepted when the machine got it.
    #[serde(default)]
    pub allow_data: bool,
    /// What the device was when the machine got it.
    #[serde(default)]
    pub identity: Option<BlockIdentity>,
    /// The PCI functions by which it existed then: while another machine has one of them, there is no such device.
    #[serde(default)]
    pub functions: Vec<Address>,
}

/// What tells a block device from others, whatever its name and number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIdentity {
    /// The name that its whole disk has by itself: a WWID, UUID or serial number; the file of a loop device.
    pub name: Option<String>,
    /// Its number, if it is a partition.
    pub partition: Option<u32>,
    /// Its size in bytes.
    pub size: u64,
}

impl BlockIdentity {
    /// Whether it can be the same device. One that has a name can have grown; one without is known by its size only.
    #[must_use]
    pub fn is_same(&self, now: &Self) -> bool {
        let is_named_same = match (&self.name, &now.name) {
            (Some(before), Some(now)) => before == now,
            _ => self.size == now.size,
        };
        is_named_same && self.partition == now.partition
    }
}

impl fmt::Display for BlockIdentity {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(partition) = self.partition {
            write!(to, "partition {partition} of ")?;
        }
        match &self.name {
            Some(name) => write!(to, "{}", escaped(name))?,
            None => to.write_str("a disk without a serial number")?,
        }
        write!(to, " ({})", bytes(self.size))
    }
}

/// A block device of the host, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// The whole path of its name, below a directory of block devices.
    pub path: PathBuf,
    /// The kernel's name: `sda`, `nvme0n1p2`, `dm-0`.
    pub name: String,
    /// Its number.
    pub number: BlockNumber,
    /// The number of its whole disk, if it is a partition.
    pub disk: Option<BlockNumber>,
    /// Its size in bytes.
    pub size: u64,
    /// The size of its logical blocks in bytes, usually 512.
    pub sector: u32,
    /// Whether the kernel refuses to write to it.
    pub is_read_only: bool,
    /// What tells it from others.
    #[serde(default)]
    pub identity: BlockIdentity,
    /// The file behind a loop device, as device and inode.
    #[serde(default)]
    pub backing: Option<(u64, u64)>,
    /// The PCI functions by which it exists.
    #[serde(default)]
    pub functions: Vec<Address>,
}

impl BlockDevice {
    /// Whether both have data in common: they are the same device, one is a partition of the other, or they are loop devices of the
    /// same file.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_same_disk = self.disk.unwrap_or(self.number) == other.disk.unwrap_or(other.number);
        if !is_same_disk && self.backing.is_some() && self.backing == other.backing {
            return true;
        }
        self.number == other.number
            || self.disk == Some(other.number)
            || other.disk == Some(self.number)
    }
}

/// What is on a block device, and who uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockUse {
    /// Who uses it or a part of it, in words: `sda1 is mounted at /srv`.
    pub users: Vec<String>,
    /// The signatures of file systems, volume managers and partition tables on it: `an ext4 file system`.
    pub data: Vec<String>,
    /// Whether it has zeros in all the places where such signatures are.
    pub is_blank: bool,
}

/// How a block device is opened for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockFile {
    /// The number that it must have.
    pub number: BlockNumber,
    /// The size of its logical blocks in bytes.
    pub sector: u32,
}

/// Why a block device cannot be found or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// There is no directory of block devices.
    #[error("the block device {0:?} cannot be used: the daemon allows none")]
    NoneAllowed(String),
    /// The name is not one.
    #[error("{0:?} is not the name of a block device")]
    Name(String),
    /// The name is not below a directory of block devices.
    #[error("{name:?} is not below {}", listed(allowed))]
    Outside {
        /// The name.
        name: String,
        /// The directories.
        allowed: Vec<PathBuf>,
    },
    /// There is no such device now.
    #[error("the host has no block device {name:?} below {}", listed(allowed))]
    Missing {
        /// The name.
        name: String,
        /// The directories.
        allowed: Vec<PathBuf>,
    },
    /// The name leads to something else.
    #[error("{} is not a block device", .0.display())]
    NotBlock(PathBuf),
    /// It can never be a disk of a machine.
    #[error("{path} cannot be a disk of a machine: {reason}", path = path.display())]
    Unfit {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// It cannot be read.
    #[error("cannot read {path}: {reason}", path = path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

fn listed(dirs: &[PathBuf]) -> String {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    dirs.join(" or ")
}

impl From<BlockError> for Refusal {
    fn from(error: BlockError) -> Self {
        let message = error.to_string();
        match error {
            BlockError::NoneAllowed(_) => Self::new(
                Code::InvalidRequest,
                message,
                "start it with their directory: `handover serve --block-dir /dev/disk/by-id`",
            ),
            BlockError::Name(_) => Self::new(
                Code::InvalidRequest,
                message,
                "use a name as in `ls /dev/disk/by-id`, without `..`",
            ),
            BlockError::Outside { .. } => Self::new(
                Code::InvalidRequest,
                message,
                "use a name below it; `handover serve --block-dir DIR` allows another directory",
            ),
            BlockError::Missing { allowed, .. } => {
                let dir = allowed.first().map_or_else(String::new, |dir| dir.display().to_string());
                Self::new(
                    Code::DeviceNotFound,
                    message,
                    format!("connect it, or choose another one: `ls {dir}`"),
                )
            }
            BlockError::NotBlock(_) => Self::new(
                Code::InvalidRequest,
                message,
                "name a disk, a partition or a logical volume",
            ),
            BlockError::Unfit { .. } => Self::new(
                Code::NotAssignable,
                message,
                "choose a disk, a partition or a logical volume",
            ),
            BlockError::Unreadable { .. } => {
                Self::new(Code::Internal, message, "see the daemon's log and `dmesg`")
            }
        }
    }
}

/// Checks the name of a block device: a path of plain parts.
///
/// # Errors
/// [`BlockError::Name`].
pub fn check_block_name(name: &str) -> Result<(), BlockError> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let relative = name.strip_prefix('/').unwrap_or(name);
    let is_odd = name.chars().any(char::is_control);
    if !is_odd && name.len() <= LONGEST_NAME && relative.split('/').all(is_plain) {
        return Ok(());
    }
    Err(BlockError::Name(name.to_owned()))
}

/// The refusal for a device that is used.
#[must_use]
pub fn block_in_use(path: &Path, users: &[String]) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!("{} is in use: {}", path.display(), users.join("; ")),
        "end that use first (`umount`, `swapoff`, `vgchange -an`, `mdadm --stop`, `zpool export`), or choose another device",
    )
}

/// The refusal for a device with data, without consent.
#[must_use]
pub fn block_has_data(device: &BlockDevice, data: &[String]) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!(
            "{} ({}, {}) has data: {}",
            device.path.display(),
            device.name,
            bytes(device.size),
            data.join(", ")
        ),
        "if the guest is to have this data, ask for it with `allow-data` (`allow_data`); if it is not needed, remove it with wipefs(8)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: BlockNumber, disk: Option<BlockNumber>) -> BlockDevice {
        BlockDevice {
            path: "/dev/disk/by-id/a".into(),
            name: "sda".into(),
            number,
            disk,
            size: 1 << 30,
            sector: 512,
            ..BlockDevice::default()
        }
    }

    #[test]
    fn loop_devices_of_one_file_are_one_disk() {
        let of = |number, backing| BlockDevice { backing, ..device(number, None) };
        assert!(of((7, 0), Some((1, 2))).overlaps(&of((7, 1), Some((1, 2)))));
        assert!(!of((7, 0), Some((1, 2))).overlaps(&of((7, 1), Some((1, 3)))));
        assert!(!of((7, 0), None).overlaps(&of((7, 1), None)));
        // Two partitions of one loop device have nothing in common.
        let part = |minor| BlockDevice { disk: Some((7, 0)), ..of((259, minor), Some((1, 2))) };
        assert!(!part(1).overlaps(&part(2)));
    }

    #[test]
    fn a_device_is_the_same_by_its_own_name_or_without_one_by_its_size() {
        let of = |name: Option<&str>, size| BlockIdentity {
            name: name.map(str::to_owned),
            partition: None,
            size,
        };
        assert!(of(Some("eui.1"), 1).is_same(&of(Some("eui.1"), 2)), "it has grown");
        assert!(!of(Some("eui.1"), 1).is_same(&of(Some("eui.2"), 1)));
        assert!(of(None, 1).is_same(&of(Some("eui.1"), 1)));
        assert!(!of(None, 1).is_same(&of(None, 2)));
        let part = BlockIdentity { partition: Some(2), ..of(Some("a\u{1b}"), 1 << 30) };
        assert!(!part.is_same(&of(Some("a\u{1b}"), 1 << 30)));
        assert_eq!(part.to_string(), "partition 2 of a\\u001b (1 GB)");
    }

    #[test]
    fn a_disk_overlaps_its_partitions_and_these_not_each_other() {
        let disk = device((8, 0), None);
        let (first, second) = (device((8, 1), Some((8, 0))), device((8, 2), Some((8, 0))));
        assert!(disk.overlaps(&disk.clone()) && disk.overlaps(&first) && first.overlaps(&disk));
        assert!(!first.overlaps(&second));
        assert!(!disk.overlaps(&device((8, 16), None)));
    }

    #[test]
    fn a_name_is_plain() {
        for good in ["ata-WDC_1", "by-id/nvme-eui.1", "/dev/disk/by-id/a", "a b"] {
            assert!(check_block_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "..", "a/../b", "./a", "a//b", "a/", "a\nb", "//dev/sda"] {
            assert!(check_block_name(bad).is_err(), "{bad:?}");
        }
    }
}
