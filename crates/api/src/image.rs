//! Images.

use serde::{Deserialize, Serialize};

use crate::Tags;

/// A request to import an image from files below the daemon's `--image-dir` directories: a disk, a kernel bundle, or
/// both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportImage {
    /// The image's name.
    pub name: String,
    /// A disk image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The disk's format, `raw` or `qcow2`; required, never guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// A kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// An initial ramdisk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// The kernel's command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Image {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ImageName))]
    pub name: String,
    /// SHA-256 over its parts, `sha256:...`, once ready.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Digest))]
    pub digest: String,
    /// `pending`, `pulling`, `converting`, `ready` or `failed`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ImageStatus))]
    pub status: String,
    /// Bytes on disk, once known.
    pub size_bytes: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was imported (RFC 3339).
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    /// Tags.
    pub tags: Tags,
    /// `raw` or `qcow2`; `null` without a disk.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskFormat>))]
    pub disk_format: Option<String>,
    /// Whether it has a kernel that is booted directly.
    pub has_kernel: bool,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Fields of the request that were ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
