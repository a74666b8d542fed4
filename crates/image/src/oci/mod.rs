//! Container images: pulled or imported, and made to the root disk of machines.
//!
//! `Store::pull` gets an image. A launcher needs a [`model::ContainerImage`], which `engine::Images::container` returns.

mod blobs;
pub mod config;
pub(crate) mod contents;
mod credentials;
mod folder;
mod local;
pub mod manifest;
mod options;
mod podman;
mod registries;
mod registry;
mod registry_client;
mod source;
mod store;

#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use model::ContainerConfig;

pub use crate::container_error::ContainerError;
pub use options::PullOptions;
pub use source::{ContainerSource, reference};
pub use store::{Needed, Pulled, Pulling};

use crate::ImageError;
use crate::layers::{chain, digest};
use blobs::Blobs;
use manifest::Parts;

/// How far a pull is. Other threads read it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Begins anew, at another place.
    fn restart(&self) {
        self.done.store(0, Ordering::Relaxed);
    }

    fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Bytes that are there, and bytes of all layers; 0 while that is not known.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// An image whose manifest and configuration are known and stored.
pub struct Resolved {
    /// The digest of its manifest.
    digest: String,
    parts: Parts,
    config: ContainerConfig,
    diff_ids: Vec<String>,
}

impl Resolved {
    /// Checks a manifest and a configuration, whose digests are right, and stores them.
    fn new(
        blobs: &Blobs,
        manifest: Vec<u8>,
        config: Vec<u8>,
        parts: Parts,
        architecture: &str,
    ) -> Result<Self, ImageError> {
        let image = manifest::configuration(&config, parts.layers.len(), architecture)?;
        blobs.put(&config)?;
        blobs.put(&manifest)?;
        Ok(Self {
            digest: digest(&manifest),
            parts,
            config: config::of(&image),
            diff_ids: image.rootfs().diff_ids().clone(),
        })
    }

    fn chain(&self) -> String {
        chain(self.diff_ids.iter().map(String::as_str))
    }
}
