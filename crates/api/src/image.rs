//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::Tags;

/// A request to import an image from files below the daemon's `--image-dir` directories: a disk, a kernel bundle, or
/// both. Without files, a container image is pulled.
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
    /// Where a container image comes from: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]`,
    /// `containers-storage:NAME`, or a reference; by default the name is the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The name for the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password for the registry; it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether the registry is spoken to without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_http: Option<bool>,
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
    /// The entry point of a container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub entrypoint: Option<Vec<String>>,
    /// The default arguments of a container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub cmd: Option<Vec<String>>,
    /// The variables of a container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub env: Option<BTreeMap<String, String>>,
    /// The working directory of a container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub working_dir: Option<String>,
    /// What else is known of a container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub container: Option<ContainerInfo>,
    /// Whether it has a kernel that is booted directly.
    pub has_kernel: bool,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Fields of the request that were ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What is known of a container image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerInfo {
    /// The user that its program runs as; empty is root.
    pub user: String,
    /// The signal that ends its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub stop_signal: Option<String>,
    /// The architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The version of its kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub kernel: Option<String>,
    /// The versions of kernels that it has modules for.
    pub modules: Vec<String>,
    /// NVIDIA's kernel modules.
    pub nvidia_modules: Vec<NvidiaModule>,
    /// The version of NVIDIA's driver that its libraries belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub nvidia_libraries: Option<String>,
    /// Bytes of its layers that are fetched, while it is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub pulled_bytes: Option<u64>,
    /// Bytes of all its layers, while it is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub total_bytes: Option<u64>,
}

/// NVIDIA's module in a container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NvidiaModule {
    /// The version of its kernel.
    pub kernel: String,
    /// The driver's version; `null` if the module is compressed.
    pub version: Option<String>,
    /// Whether it is the open one; `null` if the module is compressed.
    pub open: Option<bool>,
}

/// What a removal of unused container images removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PrunedImages {
    /// The names of the images.
    pub images: Vec<String>,
    /// How much of the host's disk is free again, in bytes.
    pub freed_bytes: u64,
}

/// A field that is left out or has a value.
fn not_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}
