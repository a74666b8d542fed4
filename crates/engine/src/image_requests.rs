//! Requests to make images.

use std::collections::BTreeMap;

use image::oci::{ContainerSource, PullOptions};
use model::{ContainerConfig, ContainerContents, DiskFormat};
use serde::{Deserialize, Serialize};

/// Request to get a container image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullImage {
    /// Name.
    pub name: String,
    /// Where it comes from.
    pub source: ContainerSource,
    /// Credentials, and registries without TLS.
    pub options: PullOptions,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// What a container image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The digest of its chain of layers, which names its root; empty until it is known.
    pub chain: String,
    /// How its program runs.
    pub config: ContainerConfig,
    /// What is in it.
    pub contents: ContainerContents,
}

/// Request to make an image that has only a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MakeImage {
    /// Name.
    pub name: String,
    /// What it is made of.
    pub content: MadeOf,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeOf {
    /// Nothing: an empty disk.
    Nothing {
        /// Its size in bytes.
        size: u64,
        /// Its format.
        format: DiskFormat,
        /// Whether its whole size is taken from the disk at once; only for raw.
        allocate: bool,
    },
    /// A layer over another image, by name.
    Base {
        /// The other image.
        base: String,
        /// Its size in bytes; the base's if there is none.
        size: Option<u64>,
    },
    /// A copy of another image, by name, in a format.
    Copy {
        /// The other image.
        from: String,
        /// The format.
        format: DiskFormat,
        /// Whether it is compressed; only for qcow2.
        compress: bool,
    },
}

/// What is known of the disk of an image besides its row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDisk {
    /// The size that a guest sees, in bytes.
    pub virtual_size: Option<u64>,
    /// How many bytes its files take on the disk.
    pub used: Option<u64>,
    /// The name of the image that it is a layer over.
    pub base: Option<String>,
}
