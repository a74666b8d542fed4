//! Images.

use serde::{Deserialize, Deserializer, Serialize};

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

/// A request to make an image: exactly one of `size` alone (an empty disk), `base` (a layer over another image) and `from` (a
/// copy of another image in a format).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MakeImage {
    /// The disk's size; of a layer its base's by default.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub size: Option<String>,
    /// The format: `qcow2`, the default of an empty disk, or `raw`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub format: Option<String>,
    /// Whether the whole size of an empty raw disk is taken from the host's disk at once.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub allocate: Option<bool>,
    /// The image that it is a layer over.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub base: Option<String>,
    /// The image that it is a copy of.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub from: Option<String>,
    /// Whether a copy as qcow2 is compressed.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub compress: Option<bool>,
    /// Tags.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
    pub tags: Option<Tags>,
}

/// A change of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResizeImage {
    /// The new size of its disk, such as `40GB`; 1 MB to 16 TB.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::NewDiskSize))]
    pub size: String,
    /// Whether it may become smaller: what is behind its new end is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrink: Option<bool>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Image {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ImageName))]
    pub name: String,
    /// SHA-256 over its parts, `sha256:...`, once ready; empty before, and after its size was changed.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Digest))]
    pub digest: String,
    /// `pending`, `pulling`, `converting`, `ready` or `failed`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ImageStatus))]
    pub status: String,
    /// Bytes on disk, once known.
    pub size_bytes: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// The stable code of that error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub error_code: Option<String>,
    /// When it was imported (RFC 3339).
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    /// Tags.
    pub tags: Tags,
    /// `raw` or `qcow2`; `null` without a disk.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::DiskFormat>))]
    pub disk_format: Option<String>,
    /// The size of its disk as a guest sees it, in bytes, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub virtual_size: Option<u64>,
    /// How much of the host's disk it takes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub used_bytes: Option<u64>,
    /// The image that it is a layer over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub base: Option<String>,
    /// Whether it has a kernel that is booted directly.
    pub has_kernel: bool,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Fields of the request that were ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A field that is left out or has a value.
fn not_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}
