//! Container images: pulled or imported in the background, and their blobs and roots.

use image::oci::{Needed, Pulled, reference};
use image::{ImageError, Imported};
use jiff::Timestamp;
use model::{Code, ContainerImage, Refusal, check_image_name};
use uuid::Uuid;

use super::Images;
use super::kernels::Unused;
use super::running::What;
use crate::lock::lock;
use crate::store::{Durability, StoredImage, StoredInstance};
use crate::{Container, Image, ImageStatus, PullImage};

/// What `prune` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The names of the images.
    pub names: Vec<String>,
    /// How much of the disk is free again, in bytes.
    pub freed: u64,
}

impl Images {
    /// Records a container image and gets it in the background.
    ///
    /// # Errors
    /// `invalid_name`, `already_exists`, `too_many_requests`.
    pub fn pull(&self, request: PullImage) -> Result<Image, Refusal> {
        self.pull_then(request, |_, _| {})
    }

    /// The same; `then` is called when it has ended.
    pub(super) fn pull_then(
        &self,
        request: PullImage,
        then: impl FnOnce(&Self, Uuid) + Send + 'static,
    ) -> Result<Image, Refusal> {
        check_image_name(&request.name)?;
        let admission = self.admit()?;
        let stored = StoredImage {
            id: Uuid::new_v4(),
            has_initrd: false,
            virtual_size: None,
            base: None,
            image: Image {
                name: request.name,
                digest: String::new(),
                status: ImageStatus::Pending,
                size_bytes: None,
                disk_format: None,
                has_kernel: false,
                cmdline: None,
                container: Some(Container::default()),
                error: None,
                error_code: None,
                created_at: Timestamp::now(),
                tags: request.tags,
            },
        };
        let import = self.running.begin(stored.id, What::Image(stored.image.name.clone()), None);
        let progress = import.progress();
        self.accept(&stored)?;
        let (id, image) = (stored.id, stored.image.clone());
        let (me, files) = (self.me.clone(), self.files.clone());
        let (source, options) = (request.source, request.options);
        let work = move || {
            let record = |status| {
                let mut now = stored.clone();
                now.image.status = status;
                // Without an engine, the next start's recovery marks the pull as failed.
                if let Some(images) = me.upgrade() {
                    images.record(&now);
                }
            };
            record(ImageStatus::Pulling);
            let pulling = files.pulling();
            let converting = || record(ImageStatus::Converting);
            let pulled = files.pull(&source, &options, &progress, &converting, import.cancel());
            drop(admission);
            let Some(images) = me.upgrade() else { return };
            let mut stored = stored;
            let ended = pulled.map(|pulled| taken(&mut stored, pulled));
            // The layers of one that has failed stay for the next try.
            let sweeps = ended.is_ok() || import.cancel().is_set();
            images.end(stored, ended, &import);
            then(&images, id);
            drop(pulling);
            if sweeps {
                images.sweep_and_warn();
            }
        };
        match std::thread::Builder::new().name("pull".into()).spawn(work) {
            Ok(_) => Ok(image),
            Err(error) => {
                let _ = self.store.write(Durability::Power, |tx| StoredImage::delete(tx, id));
                let message = format!("cannot start the pull: {error}");
                Err(Refusal::new(Code::Internal, message, "try again"))
            }
        }
    }

    /// How far the pull of an image is: bytes that are there, and of all layers.
    ///
    /// # Errors
    /// `not_found`.
    pub fn progress(&self, name: &str) -> Result<Option<(u64, u64)>, Refusal> {
        let id = self.stored(name)?.id;
        Ok(self.running.progress(id).map(|progress| progress.read()))
    }

    /// What a machine needs of a container image; `None` for other images.
    ///
    /// # Errors
    /// `image_not_ready`.
    pub fn container(&self, image: &StoredImage) -> Result<Option<ContainerImage>, Refusal> {
        let Some(container) = &image.image.container else { return Ok(None) };
        if image.image.status != ImageStatus::Ready || container.chain.is_empty() {
            let name = &image.image.name;
            return Err(Refusal::new(
                Code::ImageNotReady,
                format!("the image {name:?} cannot be used yet"),
                format!("`handover image show {name}` shows its status"),
            ));
        }
        let root = self.files.root_path(&container.chain)?;
        let found = std::fs::metadata(&root);
        let found = found.map_err(|error| {
            let message = format!("cannot read {}: {error}", root.display());
            Refusal::new(Code::Internal, message, "remove the image and pull it again")
        })?;
        Ok(Some(ContainerImage {
            root,
            root_size: found.len(),
            digest: image.image.digest.clone(),
            config: container.config.clone(),
            contents: container.contents.clone(),
        }))
    }

    /// Removes the container images that no instance uses.
    ///
    /// # Errors
    /// `state_unusable`, and if files cannot be removed.
    pub fn prune(&self) -> Result<Pruned, Refusal> {
        let mut pruned = Pruned::default();
        for stored in self.store.read(StoredImage::all)? {
            let ended = matches!(stored.image.status, ImageStatus::Ready | ImageStatus::Failed);
            if stored.image.container.is_none() || !ended {
                continue;
            }
            let _allocation = lock(&self.journal.allocation);
            let instances = self.store.read(StoredInstance::all)?;
            if instances.iter().any(|row| row.uses_image(stored.id)) {
                continue;
            }
            self.store.write(Durability::Power, |tx| StoredImage::delete(tx, stored.id))?;
            pruned.names.push(stored.image.name);
        }
        pruned.freed = self.sweep_containers()? + self.sweep_kernels(Unused::All)?;
        Ok(pruned)
    }

    /// A container image by another form of its name: `debian` is `docker.io/library/debian:latest`.
    pub(super) fn by_reference(&self, name: &str) -> Result<Option<StoredImage>, Refusal> {
        let Ok(wanted) = reference(name) else { return Ok(None) };
        let all = self.store.read(StoredImage::all)?;
        let mut containers = all.into_iter().filter(|stored| stored.image.container.is_some());
        Ok(containers.find(|stored| reference(&stored.image.name).is_ok_and(|name| name == wanted)))
    }

    /// Removes blobs and roots that no image needs. Returns how many bytes were freed.
    pub(super) fn sweep_containers(&self) -> Result<u64, ImageError> {
        // Under the lock: no image becomes ready or is removed meanwhile.
        let _allocation = lock(&self.journal.allocation);
        let Ok(all) = self.store.read(StoredImage::all) else { return Ok(0) };
        let needed = all.into_iter().filter_map(|stored| {
            let chain = stored.image.container?.chain;
            let digest = stored.image.digest;
            (!chain.is_empty()).then_some(Needed { digest, chain })
        });
        self.files.sweep_containers(&needed.collect::<Vec<_>>())
    }

    fn sweep_and_warn(&self) {
        if let Err(error) = self.sweep_containers() {
            tracing::warn!("cannot remove layers that no image needs: {error}");
        }
        self.sweep_kernels_and_warn();
    }
}

/// Takes over what was pulled.
fn taken(stored: &mut StoredImage, pulled: Pulled) -> Imported {
    stored.image.container =
        Some(Container { chain: pulled.chain, config: pulled.config, contents: pulled.contents });
    Imported { digest: pulled.digest, size_bytes: pulled.size_bytes, disk_virtual_size: None }
}
