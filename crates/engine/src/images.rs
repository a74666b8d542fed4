//! Images: recorded at once, imported in a background thread.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use image::{ImageError, Parts, Source};
use jiff::Timestamp;
use model::{Code, Refusal, check_image_name};
use uuid::Uuid;

use crate::journal::Journal;
use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, Store, StoredImage, StoredInstance};
use crate::{Config, Image, ImageSource, ImageStatus, ImportImage};

/// Images: [`Engine::images`](crate::Engine::images). They own the table `images`.
pub struct Images {
    /// Weak self-reference, for threads that may outlive it.
    me: Weak<Self>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    config: Arc<Config>,
    /// The image files.
    files: image::Store,
}

impl Images {
    pub(crate) fn new(store: Arc<Store>, journal: Arc<Journal>, config: Arc<Config>) -> Arc<Self> {
        let files = image::Store::new(config.state_dir.join("images"), config.image_dirs.clone());
        Arc::new_cyclic(|me| Self { me: me.clone(), store, journal, config, files })
    }

    /// Marks imports of a dead daemon as failed, and removes files without an image. Returns why, if files could not be
    /// removed.
    pub(crate) fn recover(&self) -> Result<Option<String>, Refusal> {
        let known = self.store.write(Durability::Power, |tx| {
            StoredImage::fail_unfinished(
                tx,
                "the daemon stopped during the import; import it again",
            )?;
            StoredImage::all(tx)
        })?;
        let known = known.into_iter().map(|stored| stored.id).collect();
        Ok(self.files.sweep(&known).err().map(|error| error.to_string()))
    }

    /// Paths of an image's files.
    pub(crate) fn paths(&self, id: Uuid) -> image::Files {
        self.files.paths(id)
    }

    /// Directory for files that are uploaded for an import.
    #[must_use]
    pub fn staging_dir(&self) -> PathBuf {
        self.config.state_dir.join("staging")
    }

    /// Records an image and imports it in the background.
    ///
    /// # Errors
    /// `invalid_name`, `invalid_request`, `already_exists`.
    pub fn import(&self, request: ImportImage) -> Result<Image, Refusal> {
        check_image_name(&request.name)?;
        match (&request.disk, &request.kernel, &request.initrd) {
            (None, None, None) => return Err(ImageError::Empty.into()),
            (_, None, Some(_)) => return Err(ImageError::InitrdAlone.into()),
            _ => {}
        }
        let stored = StoredImage {
            id: Uuid::new_v4(),
            has_initrd: request.initrd.is_some(),
            virtual_size: None,
            image: Image {
                name: request.name,
                digest: String::new(),
                status: ImageStatus::Pending,
                size_bytes: None,
                disk_format: request.disk.as_ref().map(|(_, format)| *format),
                has_kernel: request.kernel.is_some(),
                cmdline: request.cmdline,
                error: None,
                created_at: Timestamp::now(),
                tags: request.tags,
            },
        };
        self.accept(&stored)?;
        let parts = Parts {
            disk: request.disk.map(|(from, format)| (source(from), format)),
            kernel: request.kernel.map(source),
            initrd: request.initrd.map(source),
        };
        let image = stored.image.clone();
        self.import_in_thread(stored, parts)?;
        Ok(image)
    }

    /// Records an image under its name. Replaces an earlier image of that name if its import failed.
    fn accept(&self, stored: &StoredImage) -> Result<(), Refusal> {
        let _allocation = lock(&self.journal.allocation);
        let name = &stored.image.name;
        let other = self.store.read(|from| StoredImage::by_name(from, name))?;
        if other.as_ref().is_some_and(|other| other.image.status != ImageStatus::Failed) {
            return Err(Refusal::new(
                Code::AlreadyExists,
                format!("an image named {name:?} already exists"),
                format!("choose another name, or run `handover image rm {name}` first"),
            ));
        }
        self.store.write(Durability::Power, |tx| {
            if let Some(other) = &other {
                StoredImage::delete(tx, other.id)?;
            }
            stored.insert(tx)
        })
    }

    fn import_in_thread(&self, mut stored: StoredImage, parts: Parts) -> Result<(), Refusal> {
        let (me, files) = (self.me.clone(), self.files.clone());
        let record = move |stored: &StoredImage| {
            // Without an engine, the next start's recovery marks the import as failed.
            let Some(images) = me.upgrade() else { return };
            let written = images.store.write(Durability::Power, |tx| stored.update(tx));
            if let Err(error) = written {
                tracing::error!(image = stored.image.name, "cannot record the import: {error}");
            }
        };
        let importing = std::thread::Builder::new().name("import".into()).spawn(move || {
            stored.image.status = ImageStatus::Converting;
            record(&stored);
            match files.import(stored.id, parts) {
                Ok(imported) => {
                    stored.image.status = ImageStatus::Ready;
                    stored.image.digest = imported.digest;
                    stored.image.size_bytes = Some(imported.size_bytes);
                    stored.virtual_size = imported.disk_virtual_size;
                }
                Err(error) => {
                    let refusal = Refusal::from(error);
                    stored.image.status = ImageStatus::Failed;
                    stored.image.error = Some(format!("{}; {}", refusal.message, refusal.remedy));
                }
            }
            record(&stored);
        });
        importing.map(drop).map_err(|error| {
            Refusal::new(Code::Internal, format!("cannot start the import: {error}"), "try again")
        })
    }

    /// All images.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn all(&self) -> Result<Vec<Image>, Refusal> {
        let images = self.store.read(StoredImage::all)?;
        Ok(images.into_iter().map(|stored| stored.image).collect())
    }

    /// An image by name.
    ///
    /// # Errors
    /// `not_found`.
    pub fn find(&self, name: &str) -> Result<Image, Refusal> {
        self.stored(name).map(|stored| stored.image)
    }

    fn stored(&self, name: &str) -> Result<StoredImage, Refusal> {
        self.store
            .read(|from| StoredImage::by_name(from, name))?
            .ok_or_else(|| refusals::no_such("image", name, "handover image list"))
    }

    /// Deletes an image.
    ///
    /// # Errors
    /// `not_found`, `in_use`.
    pub fn delete(&self, name: &str) -> Result<(), Refusal> {
        let _allocation = lock(&self.journal.allocation);
        let stored = self.stored(name)?;
        let instances = self.store.read(StoredInstance::all)?;
        if let Some(user) = instances.iter().find(|row| row.image_id == stored.id) {
            return Err(Refusal::new(
                Code::InUse,
                format!("the instance {:?} uses the image {name:?}", user.instance.name),
                format!("run `handover instance rm {}` first", user.instance.name),
            ));
        }
        if matches!(stored.image.status, ImageStatus::Pending | ImageStatus::Converting) {
            return Err(Refusal::new(
                Code::InUse,
                format!("the image {name:?} is being imported"),
                "wait until the import ends",
            ));
        }
        self.store.write(Durability::Power, |tx| StoredImage::delete(tx, stored.id))?;
        // Files left by a crash in between are removed at the next start.
        Ok(self.files.remove(stored.id)?)
    }
}

fn source(source: ImageSource) -> Source {
    match source {
        ImageSource::Path(path) => Source::Below(path),
        ImageSource::Staged(path) => Source::Staged(path),
    }
}
