//! Volumes, and the disks of instances.

use serde::{Deserialize, Serialize};

use crate::Tags;

/// A request to create an empty volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateVolume {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::VolumeName))]
    pub name: String,
    /// Its size in gigabytes (1024³ bytes).
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 16384))]
    pub size_gb: u64,
    /// The image whose disk it gets the content of; it is empty by default. It cannot be smaller than that disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::ImageName>))]
    pub image: Option<String>,
    /// Its id; a random one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Uuid>))]
    pub id: Option<String>,
    /// Format of its file: `raw`, the default, or `qcow2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskFormat>))]
    pub format: Option<String>,
    /// Whether its whole size is taken from the host's disk at once; only for `raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocate: Option<bool>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
}

/// A change of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResizeVolume {
    /// Its new size in gigabytes (1024³ bytes): it can only become larger.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 16384))]
    pub size_gb: u64,
}

/// A volume: a disk that outlasts the instances that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Volume {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Uuid))]
    pub id: String,
    /// Its name; `INSTANCE/SERIAL` for a disk that was made with an instance.
    pub name: String,
    /// Its size in gigabytes (1024³ bytes), rounded up.
    pub size_gb: u64,
    /// Its size, such as `20GB`.
    pub size: String,
    /// How much of the host's disk it takes, in bytes; absent if its file cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub used_bytes: Option<u64>,
    /// Format of its file: `raw` or `qcow2`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::DiskFormat))]
    pub format: String,
    /// The instance that it was made with, and is deleted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::Uuid>))]
    pub made_with: Option<String>,
    /// When it was created (RFC 3339).
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    /// The instances that have it.
    pub attachments: Vec<VolumeAttachment>,
    /// Tags.
    pub tags: Tags,
    /// Fields of the request that were ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An instance that has a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeAttachment {
    /// The instance's id.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Uuid))]
    pub instance_id: String,
    /// The instance's name.
    #[serde(default)]
    pub instance_name: String,
    /// Where its guest mounts it; empty if that was not asked for.
    pub mount_path: String,
    /// Whether its guest cannot write to it.
    pub readonly: bool,
}

/// A request to attach a volume to an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AttachVolume {
    /// Where the guest is to mount it. It is recorded; only a guest that is created with a volume mounts it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::MountPath>))]
    pub mount_path: Option<String>,
    /// Whether the guest cannot write to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// How it is connected: `virtio`, the default, `scsi`, `nvme` or `sata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskBus>))]
    pub bus: Option<String>,
    /// The serial number by which the guest finds it; by default the volume's name, or `disk1`, `disk2`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskSerial>))]
    pub serial: Option<String>,
}

/// A volume of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeMount {
    /// The volume, by id or name; in answers the id.
    pub volume_id: String,
    /// Where a guest with cloud-init mounts it; empty for nowhere.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::MountPath))]
    pub mount_path: String,
    /// Whether the guest cannot write to it.
    #[serde(default)]
    pub readonly: bool,
    /// A layer of its own for what the guest writes: not implemented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Never>))]
    pub overlay: Option<bool>,
    /// How it is connected: `virtio`, the default, `scsi`, `nvme` or `sata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskBus>))]
    pub bus: Option<String>,
    /// The serial number by which the guest finds it; by default the volume's name, or `disk1`, `disk2`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskSerial>))]
    pub serial: Option<String>,
    /// The volume's name, in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The volume's size, in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// A new disk of a new instance. It is deleted with the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewDisk {
    /// Its size, such as `20GB`; 1 MB to 16 TB.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::NewDiskSize))]
    pub size: String,
    /// Format of its file: `raw`, the default, or `qcow2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskFormat>))]
    pub format: Option<String>,
    /// Whether its whole size is taken from the host's disk at once; only for `raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocate: Option<bool>,
    /// How it is connected: `virtio`, the default, `scsi`, `nvme` or `sata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskBus>))]
    pub bus: Option<String>,
    /// The serial number by which the guest finds it; by default `disk1`, `disk2`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskSerial>))]
    pub serial: Option<String>,
    /// Where a guest with cloud-init mounts it, after it made an ext4 file system on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::MountPath>))]
    pub mount_path: Option<String>,
}

/// A block device of the host, as a disk of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlockDisk {
    /// Its name below a directory of the daemon's `--block-dir`, or the whole path of that name, which answers show.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::BlockName))]
    pub device: String,
    /// How it is connected: `virtio`, the default, `scsi`, `nvme` or `sata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskBus>))]
    pub bus: Option<String>,
    /// The serial number by which the guest finds it; by default its name if that has at most 20 characters, or `disk1`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskSerial>))]
    pub serial: Option<String>,
    /// Whether the guest cannot write to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// Where a guest with cloud-init mounts it. It gets an ext4 file system before only if it has nothing but zeros at its
    /// beginning and its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::MountPath>))]
    pub mount_path: Option<String>,
    /// Whether it may have data: a file system, a volume manager's label or a partition table. Otherwise it is then refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_data: Option<bool>,
    /// Its size, in answers; absent if the host does not have it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// A CD-ROM of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cdrom {
    /// The name of its image: an imported ISO file.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ImageName))]
    pub image: String,
    /// Its serial number; by default `cd1`, `cd2`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskSerial>))]
    pub serial: Option<String>,
}
