//! Reads indexes, manifests and configurations, of OCI and of docker's schema 2: they have the same fields.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Deserialize;

use super::ContainerError;
use super::blobs::{Wanted, hex};

/// The largest index, manifest or configuration, as registries have it.
pub const MOST_BYTES: u64 = 4 << 20;

/// The most layers of an image: docker's limit is 127.
const MOST_LAYERS: usize = 256;

/// The most images of an index.
const MOST_MANIFESTS: usize = 1024;

/// The media types that are asked for.
pub const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// The annotation with the tag of an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What a manifest is.
#[derive(Debug)]
pub enum Manifest {
    /// One image.
    Image(Parts),
    /// Images for several platforms, or of several tags.
    Index(Box<ImageIndex>),
}

/// The blobs of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Its configuration.
    pub config: Wanted,
    /// Its layers, the lowest first.
    pub layers: Vec<Wanted>,
}

/// What both kinds of manifests have.
#[derive(Deserialize)]
struct Either {
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(rename = "schemaVersion")]
    version: Option<u32>,
}

/// Reads a manifest or an index.
pub fn manifest(bytes: &[u8]) -> Result<Manifest, ContainerError> {
    let bad = |error: &dyn std::fmt::Display| refused("manifest", error.to_string());
    let either: Either = serde_json::from_slice(bytes).map_err(|error| bad(&error))?;
    match (either.version, either.layers, either.manifests) {
        (Some(2), Some(_), None) => {
            let manifest: ImageManifest =
                serde_json::from_slice(bytes).map_err(|error| bad(&error))?;
            if manifest.layers().len() > MOST_LAYERS {
                return Err(refused("manifest", format!("it has more than {MOST_LAYERS} layers")));
            }
            let layers = manifest.layers().iter().map(wanted).collect::<Result<_, _>>()?;
            let config = wanted(manifest.config())?;
            if config.size > MOST_BYTES {
                return Err(refused("configuration", "it is larger than 4 MB".to_owned()));
            }
            Ok(Manifest::Image(Parts { config, layers }))
        }
        (Some(2), None, Some(_)) => index(bytes).map(|index| Manifest::Index(Box::new(index))),
        (Some(1), ..) => Err(refused("manifest", "it is of docker's schema 1".to_owned())),
        _ => Err(refused("manifest", "it is neither an image's nor an index".to_owned())),
    }
}

/// Reads an index.
pub fn index(bytes: &[u8]) -> Result<ImageIndex, ContainerError> {
    let index: ImageIndex =
        serde_json::from_slice(bytes).map_err(|error| refused("index", error.to_string()))?;
    if index.manifests().len() > MOST_MANIFESTS {
        return Err(refused("index", format!("it has more than {MOST_MANIFESTS} images")));
    }
    Ok(index)
}

/// The size of blobs together, in bytes. A manifest can say anything of them.
pub fn total<'a>(blobs: impl IntoIterator<Item = &'a Wanted>) -> u64 {
    blobs.into_iter().fold(0, |sum, blob| sum.saturating_add(blob.size))
}

/// The blob that a descriptor is of.
pub fn wanted(descriptor: &Descriptor) -> Result<Wanted, ContainerError> {
    let digest = descriptor.digest().to_string();
    hex(&digest)?;
    Ok(Wanted { digest, size: descriptor.size() })
}

/// Chooses the image for this platform of Linux.
pub fn choose<'a>(
    index: &'a ImageIndex,
    architecture: &str,
) -> Result<&'a Descriptor, ContainerError> {
    let platform = |descriptor: &Descriptor| {
        let platform = descriptor.platform().as_ref()?;
        Some((platform.os().to_string(), platform.architecture().to_string()))
    };
    let fits = |descriptor: &&Descriptor| {
        platform(descriptor).is_some_and(|(os, found)| os == "linux" && found == architecture)
    };
    let mut found = index.manifests().iter().filter(fits);
    // Without a platform, the configuration tells.
    let only = || match index.manifests().as_slice() {
        [only] if only.platform().is_none() => Some(only),
        _ => None,
    };
    found.next().or_else(only).ok_or_else(|| {
        let named = index.manifests().iter().filter_map(platform);
        let named = named.filter(|(os, _)| os != "unknown");
        let mut found: Vec<String> = named.map(|(os, found)| format!("{os}/{found}")).collect();
        found.dedup();
        found.truncate(20);
        if found.is_empty() {
            found.push("no known platform".to_owned());
        }
        ContainerError::WrongPlatform { wanted: format!("linux/{architecture}"), found }
    })
}

/// Finds an image by its tag in the index of a layout. `place` is for messages.
pub fn tagged<'a>(
    index: &'a ImageIndex,
    tag: Option<&str>,
    place: &str,
) -> Result<&'a Descriptor, ContainerError> {
    let name = |descriptor: &'a Descriptor| descriptor.annotations().as_ref()?.get(REF_NAME);
    let names = || index.manifests().iter().filter_map(name).take(20).cloned().collect();
    let Some(tag) = tag else {
        return match index.manifests().as_slice() {
            [only] => Ok(only),
            [] => Err(refused("index", "it has no image".to_owned())),
            _ => Err(ContainerError::Ambiguous { place: place.to_owned(), known: names() }),
        };
    };
    let is_it = |descriptor: &&'a Descriptor| {
        name(descriptor).is_some_and(|name| name == tag) || descriptor.digest().as_ref() == tag
    };
    index.manifests().iter().find(is_it).ok_or_else(|| ContainerError::UnknownTag {
        place: place.to_owned(),
        tag: tag.to_owned(),
        known: names(),
    })
}

/// Reads the configuration of an image for this platform with as many layers.
pub fn configuration(
    bytes: &[u8],
    layers: usize,
    architecture: &str,
) -> Result<ImageConfiguration, ContainerError> {
    let config: ImageConfiguration = serde_json::from_slice(bytes)
        .map_err(|error| refused("configuration", error.to_string()))?;
    let (os, found) = (config.os().to_string(), config.architecture().to_string());
    if os != "linux" || found != architecture {
        let (wanted, found) = (format!("linux/{architecture}"), vec![format!("{os}/{found}")]);
        return Err(ContainerError::WrongPlatform { wanted, found });
    }
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != layers {
        let problem = format!("it names {} layers, the manifest {layers}", diff_ids.len());
        return Err(refused("configuration", problem));
    }
    diff_ids.iter().try_for_each(|digest| hex(digest).map(drop))?;
    Ok(config)
}

/// The architecture of this host, as images name it.
#[must_use]
pub const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

pub(super) fn refused(what: &'static str, problem: String) -> ContainerError {
    // A parser quotes what it reads.
    let problem = model::shown::short(&problem, 300);
    ContainerError::BadManifest { what, problem: model::shown::escaped(&problem).into_owned() }
}
