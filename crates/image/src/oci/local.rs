//! Images from layouts and archives on this host.

use oci_spec::image::ImageIndex;
use serde::{Deserialize, Serialize};

use super::blobs::{Blobs, Wanted};
use super::folder::Folder;
use super::manifest::{self, Manifest, Parts};
use super::source::reference;
use super::{ContainerError, Progress, Resolved};
use crate::layers::digest;
use crate::{Cancel, ImageError};

/// How deep indexes are nested at most.
const MOST_DEPTH: usize = 4;

/// An image of a layout.
pub struct Layout<'a> {
    pub folder: &'a Folder,
    pub blobs: &'a Blobs,
    pub cancel: &'a Cancel,
}

impl Layout<'_> {
    /// Finds an image, and stores all of its blobs.
    pub fn fetch(
        &self,
        tag: Option<&str>,
        architecture: &str,
        progress: &Progress,
    ) -> Result<Resolved, ImageError> {
        let place = self.folder.name();
        let bad = |problem: &str| ContainerError::BadPlace {
            place: place.clone(),
            kind: "OCI layout",
            problem: problem.to_owned(),
        };
        let index = self.folder.small("index.json", "index")?;
        let index = index.ok_or_else(|| bad("it has no index.json"))?;
        let index: ImageIndex = manifest::index(&index)?;
        let mut wanted = manifest::wanted(manifest::tagged(&index, tag, &place)?)?;
        for _ in 0..MOST_DEPTH {
            let bytes = self.read(&wanted, "manifest")?;
            match manifest::manifest(&bytes)? {
                Manifest::Index(index) => {
                    wanted = manifest::wanted(manifest::choose(&index, architecture)?)?;
                }
                Manifest::Image(parts) => {
                    let resolved = self.resolve(bytes, parts, architecture)?;
                    self.layers(&resolved.parts, progress)?;
                    return Ok(resolved);
                }
            }
        }
        Err(bad("its indexes are nested too deep").into())
    }

    fn resolve(
        &self,
        bytes: Vec<u8>,
        parts: Parts,
        architecture: &str,
    ) -> Result<Resolved, ImageError> {
        let config = self.read(&parts.config, "configuration")?;
        Resolved::new(self.blobs, bytes, config, parts, architecture)
    }

    fn layers(&self, parts: &Parts, progress: &Progress) -> Result<(), ImageError> {
        let place = self.folder.name();
        progress.expect(manifest::total(&parts.layers));
        for layer in &parts.layers {
            if !self.blobs.has(&layer.digest, layer.size)? {
                let mut file = self.open(layer)?;
                self.blobs.take(&mut file, layer, &place, self.cancel)?;
            }
            progress.add(layer.size);
        }
        Ok(())
    }

    fn open(&self, wanted: &Wanted) -> Result<Box<dyn std::io::Read>, ImageError> {
        let name = format!("blobs/{}", wanted.digest.replace(':', "/"));
        self.folder.open(&name)?.ok_or_else(|| missing(self.folder, &name).into())
    }

    /// Reads a small blob and verifies it.
    fn read(&self, wanted: &Wanted, what: &'static str) -> Result<Vec<u8>, ImageError> {
        let name = format!("blobs/{}", wanted.digest.replace(':', "/"));
        let bytes = self.folder.small(&name, what)?.ok_or_else(|| missing(self.folder, &name))?;
        verify(&bytes, wanted, &self.folder.name())?;
        Ok(bytes)
    }
}

/// Checks that bytes are those of a digest.
pub fn verify(bytes: &[u8], wanted: &Wanted, place: &str) -> Result<(), ContainerError> {
    let (place, expected) = (place.to_owned(), wanted.digest.clone());
    if bytes.len() as u64 != wanted.size {
        return Err(ContainerError::WrongSize { place, expected });
    }
    let found = digest(bytes);
    if found != expected {
        return Err(ContainerError::WrongDigest { place, found, expected });
    }
    Ok(())
}

fn missing(folder: &Folder, name: &str) -> ContainerError {
    ContainerError::BadPlace {
        place: folder.name(),
        kind: "complete image",
        problem: format!("the file {:?} is missing", model::shown::short(name, 200)),
    }
}

/// An entry of `manifest.json`, which `docker save` writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// A manifest that is made for an image that has none.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: MadeBlob<'a>,
    layers: Vec<MadeBlob<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeBlob<'a> {
    media_type: &'a str,
    digest: &'a str,
    size: u64,
}

impl<'a> MadeBlob<'a> {
    fn of(media_type: &'a str, blob: &'a Wanted) -> Self {
        Self { media_type, digest: &blob.digest, size: blob.size }
    }
}

/// Finds an image in an archive of docker's, and stores all of its blobs.
pub fn docker_archive(
    layout: &Layout<'_>,
    tag: Option<&str>,
    architecture: &str,
    progress: &Progress,
) -> Result<Resolved, ImageError> {
    let (folder, blobs) = (layout.folder, layout.blobs);
    let place = folder.name();
    let list = folder.small("manifest.json", "manifest")?;
    let list = list.ok_or_else(|| missing(folder, "manifest.json"))?;
    let list: Vec<Saved> = serde_json::from_slice(&list)
        .map_err(|error| manifest::refused("manifest", error.to_string()))?;
    let saved = chosen(&list, tag, &place)?;
    let config = folder.small(&saved.config, "configuration")?;
    let config = config.ok_or_else(|| missing(folder, &saved.config))?;
    manifest::configuration(&config, saved.layers.len(), architecture)?;
    let mut layers = Vec::new();
    for name in &saved.layers {
        let mut file = folder.open(name)?.ok_or_else(|| missing(folder, name))?;
        let most = blobs.largest();
        let blob = blobs.copy(&mut file, most, &place, layout.cancel)?;
        let kept = blobs.keep(blob)?;
        progress.add(kept.size);
        layers.push(kept);
    }
    let config_blob = Wanted { digest: digest(&config), size: config.len() as u64 };
    let manifest = Made {
        schema_version: 2,
        media_type: MANIFEST,
        config: MadeBlob::of(CONFIG, &config_blob),
        layers: layers.iter().map(|layer| MadeBlob::of(LAYER, layer)).collect(),
    };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|error| manifest::refused("manifest", error.to_string()))?;
    let parts = Parts { config: config_blob, layers };
    Resolved::new(blobs, bytes, config, parts, architecture)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The image of a tag, or the only one.
fn chosen<'a>(
    list: &'a [Saved],
    tag: Option<&str>,
    place: &str,
) -> Result<&'a Saved, ContainerError> {
    let tags = || {
        let tags = list.iter().flat_map(|saved| saved.repo_tags.iter().flatten());
        tags.take(20).cloned().collect()
    };
    let Some(tag) = tag else {
        return match list {
            [only] => Ok(only),
            [] => Err(manifest::refused("manifest", "it has no image".to_owned())),
            _ => Err(ContainerError::Ambiguous { place: place.to_owned(), known: tags() }),
        };
    };
    let wanted = reference(tag)?;
    let is_it = |name: &String| name == tag || reference(name).is_ok_and(|name| name == wanted);
    let found = list.iter().find(|saved| saved.repo_tags.iter().flatten().any(is_it));
    found.ok_or_else(|| ContainerError::UnknownTag {
        place: place.to_owned(),
        tag: tag.to_owned(),
        known: tags(),
    })
}
