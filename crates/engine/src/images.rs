//! Images: accepted at once, imported by a thread.

use std::path::PathBuf;

use image::{ImageError, Parts, Source};
use jiff::Timestamp;
use model::{Code, Refusal, check_image_name};
use uuid::Uuid;

use crate::core::{Core, held};
use crate::refusals;
use crate::store::{Durability, StoredImage, StoredInstance};
use crate::{Image, ImageSource, ImageStatus, ImportImage};

impl Core {
    pub fn staging_dir(&self) -> PathBuf {
        self.config.state_dir.join("staging")
    }

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

    /// Records an image under its name. One that failed makes room.
    fn accept(&self, stored: &StoredImage) -> Result<(), Refusal> {
        let _choosing = held(&self.choosing);
        let name = &stored.image.name;
        let other = self.store.read(|from| StoredImage::by_name(from, name))?;
        if other.as_ref().is_some_and(|other| other.image.status != ImageStatus::Failed) {
            return Err(Refusal::new(
                Code::AlreadyExists,
                format!("there is an image {name:?} already"),
                format!("choose another name, or `handover image rm {name}` first"),
            ));
        }
        self.write(Durability::Power, |tx| {
            if let Some(other) = &other {
                StoredImage::delete(tx, other.id)?;
            }
            stored.insert(tx)
        })
    }

    fn import_in_thread(&self, mut stored: StoredImage, parts: Parts) -> Result<(), Refusal> {
        let (core, images) = (self.me.clone(), self.images.clone());
        let record = move |stored: &StoredImage| {
            // An engine that is gone leaves the image to the next one's recovery.
            let Some(core) = core.upgrade() else { return };
            let written = core.write(Durability::Power, |tx| stored.update(tx));
            if let Err(error) = written {
                tracing::error!(image = stored.image.name, "cannot record the import: {error}");
            }
        };
        let importing = std::thread::Builder::new().name("import".into()).spawn(move || {
            stored.image.status = ImageStatus::Converting;
            record(&stored);
            match images.import(stored.id, parts) {
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

    pub fn all_images(&self) -> Result<Vec<Image>, Refusal> {
        let images = self.store.read(StoredImage::all)?;
        Ok(images.into_iter().map(|stored| stored.image).collect())
    }

    pub fn image(&self, name: &str) -> Result<StoredImage, Refusal> {
        self.store
            .read(|from| StoredImage::by_name(from, name))?
            .ok_or_else(|| refusals::no_such("image", name, "handover image ls"))
    }

    pub fn delete_image(&self, name: &str) -> Result<(), Refusal> {
        let _choosing = held(&self.choosing);
        let stored = self.image(name)?;
        let instances = self.store.read(StoredInstance::all)?;
        if let Some(user) = instances.iter().find(|row| row.image_id == stored.id) {
            return Err(Refusal::new(
                Code::InUse,
                format!("the instance {:?} uses the image {name:?}", user.instance.name),
                format!("handover instance delete {}", user.instance.name),
            ));
        }
        if matches!(stored.image.status, ImageStatus::Pending | ImageStatus::Converting) {
            return Err(Refusal::new(
                Code::InUse,
                format!("the image {name:?} is being imported"),
                "wait until it is ready or has failed",
            ));
        }
        self.write(Durability::Power, |tx| StoredImage::delete(tx, stored.id))?;
        // What a crash between the two leaves is swept at the next start.
        Ok(self.images.remove(stored.id)?)
    }
}

fn source(source: ImageSource) -> Source {
    match source {
        ImageSource::Path(path) => Source::Below(path),
        ImageSource::Staged(path) => Source::Staged(path),
    }
}
