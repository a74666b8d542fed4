//! Container images in the store: `blobs/sha256/HEX`, and `roots/sha256-HEX.erofs` by the chain of layers.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::{ContainerConfig, ContainerContents};
use uuid::Uuid;

use super::blobs::{Blobs, UNFINISHED, hex};
use super::folder::Folder;
use super::local::{self, Layout};
use super::manifest::{self, Manifest, architecture};
use super::{ContainerError, ContainerSource, Progress, PullOptions, Resolved, contents};
use crate::layers::{self, Layer};
use crate::store::{make_dir, sync_dir};
use crate::{Cancel, ImageError, Source, Store};

/// An image that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The digest of its manifest.
    pub digest: String,
    /// The digest of its chain of layers, which names its root.
    pub chain: String,
    /// The size of all its layers as they were fetched, in bytes.
    pub size_bytes: u64,
    /// How its program runs.
    pub config: ContainerConfig,
    /// What is in it.
    pub contents: ContainerContents,
}

/// What an image needs of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The digest of its manifest.
    pub digest: String,
    /// The digest of its chain of layers.
    pub chain: String,
}

/// A pull, until what it made is recorded.
#[must_use]
pub struct Pulling(Arc<Mutex<u64>>);

impl Drop for Pulling {
    fn drop(&mut self) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
    }
}

impl Store {
    /// Begins a pull. What it makes stays until the returned value is dropped, and then if an image is known that needs it.
    pub fn pulling(&self) -> Pulling {
        *self.pulls.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Pulling(self.pulls.clone())
    }

    /// Gets an image and makes its root. What is there already is not fetched or made again. `converting` is called when all layers are
    /// there. Ends soon after `cancel` was set.
    ///
    /// # Errors
    /// [`ImageError::Container`], and those of imports.
    pub fn pull(
        &self,
        source: &ContainerSource,
        options: &PullOptions,
        progress: &Progress,
        converting: &dyn Fn(),
        cancel: &Cancel,
    ) -> Result<Pulled, ImageError> {
        let resolved = self.fetch(source, options, progress, cancel)?;
        converting();
        let chain = resolved.chain();
        let root = self.root_path(&chain)?;
        if !root.exists() {
            self.build(&resolved, &root, cancel)?;
        }
        let contents = contents::of(&contents::open(&root)?);
        let contents = contents.map_err(|error| ImageError::io("read", &root, error))?;
        Ok(Pulled {
            digest: resolved.digest,
            chain,
            size_bytes: manifest::total(&resolved.parts.layers),
            config: resolved.config,
            contents,
        })
    }

    fn fetch(
        &self,
        source: &ContainerSource,
        options: &PullOptions,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Resolved, ImageError> {
        make_dir(&self.dir)?;
        let blobs = self.blobs();
        let archive = |file: &Path, kind| {
            Folder::archive(&Source::Below(file.to_owned()), &self.import_dirs, kind)
        };
        let (folder, tag) = match source {
            ContainerSource::Layout { dir, tag } => {
                (Folder::Dir { dir: dir.clone(), import_dirs: self.import_dirs.clone() }, tag)
            }
            ContainerSource::OciArchive { file, tag } => (archive(file, "OCI archive")?, tag),
            ContainerSource::DockerArchive { file, tag } => (archive(file, "docker archive")?, tag),
            ContainerSource::Storage { name } => {
                return self.fetch_from_podman(name, progress, cancel);
            }
            ContainerSource::Registry { reference } => {
                return super::registry::fetch(reference, options, &blobs, progress, cancel);
            }
        };
        let layout = Layout { folder: &folder, blobs: &blobs, cancel };
        if matches!(source, ContainerSource::DockerArchive { .. }) {
            return local::docker_archive(&layout, tag.as_deref(), architecture(), progress);
        }
        layout.fetch(tag.as_deref(), architecture(), progress)
    }

    fn build(&self, resolved: &Resolved, root: &Path, cancel: &Cancel) -> Result<(), ImageError> {
        let blobs = self.blobs();
        let mut all = Vec::new();
        for (wanted, diff_id) in resolved.parts.layers.iter().zip(&resolved.diff_ids) {
            let digest = wanted.digest.clone();
            let file = blobs.open(&digest)?.ok_or_else(|| {
                let missing = io::ErrorKind::NotFound;
                ImageError::io("read", blobs.dir().join(&digest), io::Error::from(missing))
            })?;
            all.push(Layer { digest, file, diff_id: diff_id.clone() });
        }
        let dir = self.roots();
        make_dir(&dir)?;
        let id = Uuid::new_v4();
        let unfinished = dir.join(format!("{UNFINISHED}{id}"));
        let scratch = dir.join(format!("{UNFINISHED}{id}-tails"));
        let allowance = || self.budget.allowance(&dir);
        layers::build(all, &unfinished, &scratch, allowance, cancel)?;
        self.budget.between_changes();
        fs::rename(&unfinished, root).map_err(|error| ImageError::io("rename", root, error))?;
        sync_dir(&dir)
    }

    /// The file system image of a chain of layers.
    ///
    /// # Errors
    /// If the digest is none.
    pub fn root_path(&self, chain: &str) -> Result<PathBuf, ImageError> {
        Ok(self.roots().join(format!("sha256-{}.erofs", hex(chain)?)))
    }

    /// Copies one file out of a root to a new file, and returns its size.
    ///
    /// # Errors
    /// [`ContainerError::NoFile`], and if there is no room.
    pub fn extract(
        &self,
        chain: &str,
        path: &str,
        to: &Path,
        cancel: &Cancel,
    ) -> Result<u64, ImageError> {
        let image = contents::open(&self.root_path(chain)?)?;
        let allowance = self.budget.allowance(&self.dir);
        let extracted = contents::extract(&image, path, to, allowance, cancel);
        if extracted.is_err() {
            let _ = fs::remove_file(to);
        }
        extracted
    }

    /// Hands all modules of a root for one kernel version to `take`: the path below `/usr/lib/modules/VERSION`, and the bytes as they are
    /// in the image; also `modules.dep` and its like.
    ///
    /// # Errors
    /// If it cannot be read, and those of `take`.
    pub fn modules(
        &self,
        chain: &str,
        version: &str,
        take: &mut dyn FnMut(&str, Vec<u8>) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        let path = self.root_path(chain)?;
        let image = contents::open(&path)?;
        contents::modules(&image, version, take)
            .map_err(|error| ImageError::io("read", path, error))
    }

    /// Removes blobs and roots that none of these images needs, and what crashes left. Does nothing while a pull is running. Returns how
    /// many bytes were freed.
    ///
    /// # Errors
    /// If the store cannot be read, or an entry cannot be removed.
    pub fn sweep_containers(&self, images: &[Needed]) -> Result<u64, ImageError> {
        let pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        if *pulls > 0 {
            return Ok(0);
        }
        let (mut keep, mut roots) = (BTreeSet::new(), BTreeSet::new());
        let blobs = self.blobs();
        for image in images {
            roots.extend(hex(&image.chain).map(|hex| format!("sha256-{hex}.erofs")));
            let Ok(own) = hex(&image.digest) else { continue };
            keep.insert(own.to_owned());
            let bytes = blobs.read(&image.digest, manifest::MOST_BYTES)?.unwrap_or_default();
            if let Ok(Manifest::Image(parts)) = manifest::manifest(&bytes) {
                let all = parts.layers.iter().chain([&parts.config]);
                keep.extend(all.filter_map(|blob| hex(&blob.digest).ok()).map(str::to_owned));
            }
        }
        let freed = sweep_dir(blobs.dir(), &keep)?;
        Ok(freed + sweep_dir(&self.roots(), &roots)?)
    }

    fn blobs(&self) -> Blobs {
        Blobs::below(&self.dir, self.budget.clone())
    }

    fn roots(&self) -> PathBuf {
        self.dir.join("roots")
    }

    /// Gets an image of podman's, by way of an archive.
    fn fetch_from_podman(
        &self,
        name: &str,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Resolved, ImageError> {
        // Where what a crash leaves is removed.
        let dir = self.blobs().dir().to_owned();
        make_dir(&dir)?;
        let file = dir.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
        let found = super::podman::save(name, &file, cancel).and_then(|()| {
            let folder = Folder::archive(&Source::Staged(file.clone()), &[], "OCI archive")?;
            let blobs = self.blobs();
            let layout = Layout { folder: &folder, blobs: &blobs, cancel };
            layout.fetch(None, architecture(), progress)
        });
        let _ = fs::remove_file(&file);
        found
    }
}

/// Removes the files of a directory that are not in `keep`.
fn sweep_dir(dir: &Path, keep: &BTreeSet<String>) -> Result<u64, ImageError> {
    let reading = |error| ImageError::io("read", dir, error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(reading)?,
    };
    let mut freed = 0;
    for entry in entries {
        let entry = entry.map_err(reading)?;
        if entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
            continue;
        }
        let blocks = entry.metadata().map(|found| std::os::unix::fs::MetadataExt::blocks(&found));
        freed += blocks.unwrap_or_default() * 512;
        let path = entry.path();
        fs::remove_file(&path).map_err(|error| ImageError::io("remove", path, error))?;
    }
    Ok(freed)
}

impl From<ContainerError> for ImageError {
    fn from(error: ContainerError) -> Self {
        Self::Container(Box::new(error))
    }
}
