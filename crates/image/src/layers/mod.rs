//! Merges the layers of a container image, the lowest first, to a file system image.
//!
//! The tree of names and metadata is in memory; contents go through to the image as they are read. No file of a layer is ever made on the
//! host, so no name, link, owner or device in it can reach the host.

mod archive;
mod block;
mod compression;
mod merge;
mod pax;
mod sparse;

#[cfg(test)]
pub mod tests;

use std::fs::{self, File};
use std::path::Path;

use compression::{Hashed, decoded};
use merge::Merge;
use sha2::{Digest as _, Sha256};

pub use archive::{Archive, EntryKind};

use crate::budget::Allowance;
use crate::container_error::ContainerError;
use crate::erofs::{self, Blocks, BuildError, Tree};
use crate::layer_problem::LayerProblem;
use crate::{Cancel, ImageError};

/// A layer of an image.
#[derive(Debug)]
pub struct Layer {
    /// Its blob, for messages.
    pub digest: String,
    /// A tar archive: plain, or compressed with gzip or zstd.
    pub file: File,
    /// The digest of the archive when it is not compressed, as the image's configuration says.
    pub diff_id: String,
}

/// The chain of layers, which names the file system that they make (`ChainID` in the image specification of OCI).
#[must_use]
pub fn chain<'a>(diff_ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut chain = String::new();
    for diff_id in diff_ids {
        chain = if chain.is_empty() {
            diff_id.to_owned()
        } else {
            digest(format!("{chain} {diff_id}").as_bytes())
        };
    }
    // An image without layers has an empty root.
    if chain.is_empty() { digest(b"") } else { chain }
}

/// The digest of bytes, as `sha256:HEX`.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    shown_digest(&Sha256::digest(bytes))
}

/// A SHA-256 as `sha256:HEX`.
pub fn shown_digest(sha256: &[u8]) -> String {
    let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Builds the file system image of these layers at `to`, and syncs it to disk. `scratch` is a file that is used meanwhile.
///
/// # Errors
/// [`ContainerError::Layer`] if a layer is wrong; if there is no room, and if it was cancelled. Nothing is left then.
pub fn build(
    layers: Vec<Layer>,
    to: &Path,
    scratch: &Path,
    allowance: impl Fn() -> Allowance,
    cancel: &Cancel,
) -> Result<u64, ImageError> {
    let built = build_files(layers, to, scratch, allowance, cancel);
    let _ = fs::remove_file(scratch);
    if built.is_err() {
        let _ = fs::remove_file(to);
    }
    built
}

fn build_files(
    layers: Vec<Layer>,
    to: &Path,
    scratch: &Path,
    allowance: impl Fn() -> Allowance,
    cancel: &Cancel,
) -> Result<u64, ImageError> {
    let mut blocks = Blocks::create(to, scratch, allowance)?;
    let mut tree = Tree::default();
    let chain = chain(layers.iter().map(|layer| layer.diff_id.as_str()));
    for (number, layer) in layers.into_iter().enumerate() {
        let merge = Merge { tree: &mut tree, blocks: &mut blocks, cancel };
        merge_layer(merge, &layer, number).map_err(|error| in_layer(error, &layer.digest))?;
    }
    let identity = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, chain.as_bytes());
    erofs::write(blocks, &tree, identity.into_bytes()).map_err(|error| in_layer(error, &chain))
}

fn merge_layer(mut merge: Merge<'_>, layer: &Layer, number: usize) -> Result<(), BuildError> {
    let file = layer.file.try_clone().map_err(LayerProblem::unreadable)?;
    let mut hashed = Hashed::new(decoded(file).map_err(LayerProblem::unreadable)?);
    let mut archive = Archive::new(&mut hashed);
    merge.layer(&mut archive, number)?;
    let found = shown_digest(&hashed.finish());
    if found != layer.diff_id {
        let expected = layer.diff_id.clone();
        return Err(LayerProblem::WrongContent { found, expected }.into());
    }
    Ok(())
}

fn in_layer(error: BuildError, digest: &str) -> ImageError {
    match error {
        BuildError::Problem(problem) => {
            ContainerError::Layer { digest: digest.to_owned(), problem }.into()
        }
        BuildError::Image(error) => error,
    }
}
