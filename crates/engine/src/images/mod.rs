//! Images: recorded at once, imported in a background thread.

pub mod kernels;
mod make;
mod pull;
mod pull_again;
mod running;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use image::{Admission, Budget, Cancel, ImageError, Imported, Parts, Source, Tool};
use jiff::Timestamp;
use model::{Code, Disk, Host, Refusal, check_image_name};
use uuid::Uuid;

use crate::journal::Journal;
use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, Store, StoredImage, StoredInstance};
use crate::tags::has_tags;
use crate::{Config, Image, ImageSource, ImageStatus, ImportImage};
use kernels::Unused;

pub use kernels::BootKernel;
pub use pull::Pruned;
use running::{Import, Running, What};

/// How long removing an image waits for its import to end: the kernel may still be writing the import's data.
const ENDING: Duration = Duration::from_secs(10);

/// Programs that read images run as the user after those of machines.
pub fn tool(config: &Config) -> Tool {
    Tool::of_user(config.machine_uids.end)
}

/// Images: [`Engine::images`](crate::Engine::images). They own the table `images`.
pub struct Images {
    /// Weak self-reference, for threads that may outlive it.
    me: Weak<Self>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    config: Arc<Config>,
    host: Arc<dyn Host>,
    /// The image files.
    files: image::Store,
    /// What uploads and imports may take of the disk.
    budget: Arc<Budget>,
    running: Arc<Running>,
}

impl Images {
    pub(crate) fn new(
        store: Arc<Store>,
        journal: Arc<Journal>,
        host: Arc<dyn Host>,
        config: Arc<Config>,
    ) -> Arc<Self> {
        let disk: Arc<dyn Disk> = host.clone();
        let budget = Budget::new(disk, config.image_limits);
        let dir = config.state_dir.join("images");
        let files =
            image::Store::new(dir, config.image_dirs.clone(), budget.clone(), tool(&config));
        let running = Arc::default();
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            store,
            journal,
            config,
            host,
            files,
            budget,
            running,
        })
    }

    /// Marks imports of a dead daemon as failed, and removes files without an image. Returns why, if files could not be
    /// removed.
    pub(crate) fn recover(&self) -> Result<Option<String>, Refusal> {
        self.forget_pulls_again()?;
        let known = self.store.write(Durability::Power, |tx| {
            StoredImage::fail_unfinished(
                tx,
                "the daemon stopped during the import; import it again",
            )?;
            StoredImage::all(tx)
        })?;
        self.settle(&known);
        // One that was complete just before the crash, and is not recorded as such, has failed: its files go.
        let ready = known.iter().filter(|stored| stored.image.status == ImageStatus::Ready);
        let known = ready.map(|stored| stored.id).collect();
        let swept = self.files.sweep(&known).and_then(|()| self.sweep_containers());
        let swept = swept.and_then(|_| self.sweep_kernels(Unused::Replaced));
        Ok(swept.err().map(|error| error.to_string()))
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

    /// Admits an upload, which becomes an import with [`import_admitted`](Self::import_admitted).
    ///
    /// # Errors
    /// `too_many_requests`.
    pub fn admit(&self) -> Result<Admission, Refusal> {
        Ok(self.budget.admit()?)
    }

    /// Records an image and imports it in the background.
    ///
    /// # Errors
    /// `invalid_name`, `invalid_request`, `already_exists`, `too_many_requests`.
    pub fn import(&self, request: ImportImage) -> Result<Image, Refusal> {
        self.import_admitted(request, self.admit()?)
    }

    /// The same for an upload that was admitted before.
    ///
    /// # Errors
    /// `invalid_name`, `invalid_request`, `already_exists`.
    pub fn import_admitted(
        &self,
        request: ImportImage,
        admission: Admission,
    ) -> Result<Image, Refusal> {
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
            base: None,
            image: Image {
                name: request.name,
                digest: String::new(),
                status: ImageStatus::Pending,
                size_bytes: None,
                disk_format: request.disk.as_ref().map(|(_, format)| *format),
                has_kernel: request.kernel.is_some(),
                cmdline: request.cmdline,
                container: None,
                error: None,
                error_code: None,
                created_at: Timestamp::now(),
                tags: request.tags,
            },
        };
        // Before the image can be found, so that its removal always ends the import.
        let import = self.running.begin(stored.id, What::Image(stored.image.name.clone()), None);
        self.accept(&stored)?;
        let parts = Parts {
            disk: request.disk.map(|(from, format)| (source(from), format)),
            kernel: request.kernel.map(source),
            initrd: request.initrd.map(source),
        };
        let id = stored.id;
        let work = move |files: &image::Store, cancel: &Cancel| files.import(id, parts, cancel);
        self.in_thread(stored, work, import, admission)
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

    /// Does the work of an image that is recorded in a thread of its own.
    fn in_thread(
        &self,
        mut stored: StoredImage,
        work: impl FnOnce(&image::Store, &Cancel) -> Result<Imported, ImageError> + Send + 'static,
        import: Import,
        admission: Admission,
    ) -> Result<Image, Refusal> {
        let (id, image) = (stored.id, stored.image.clone());
        let (me, files) = (self.me.clone(), self.files.clone());
        let importing = std::thread::Builder::new().name("import".into()).spawn(move || {
            stored.image.status = ImageStatus::Converting;
            // Without an engine, the next start's recovery marks the import as failed.
            if let Some(images) = me.upgrade() {
                images.record(&stored);
            }
            let result = work(&files, import.cancel());
            // Its place is free before its end can be seen.
            drop(admission);
            if let Some(images) = me.upgrade() {
                images.end(stored, result, &import);
            }
        });
        match importing {
            Ok(_) => Ok(image),
            Err(error) => {
                // Without its row, nothing is left of the image.
                let _ = self.store.write(Durability::Power, |tx| StoredImage::delete(tx, id));
                let message = format!("cannot start the import: {error}");
                Err(Refusal::new(Code::Internal, message, "try again"))
            }
        }
    }

    /// Records how an import ended. The files of an image that was removed meanwhile are removed too.
    fn end(&self, mut stored: StoredImage, result: Result<Imported, ImageError>, import: &Import) {
        match result {
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
                stored.image.error_code = Some(refusal.code);
            }
        }
        let _allocation = lock(&self.journal.allocation);
        if import.cancel().is_set() {
            if let Err(error) = self.files.remove(stored.id) {
                // Removed by the next start's recovery.
                tracing::warn!(image = stored.image.name, "cannot remove its files: {error}");
            }
        } else {
            self.record(&stored);
        }
    }

    /// Records the progress of an import; has no effect on an image that was removed.
    fn record(&self, stored: &StoredImage) {
        let written = self.store.write(Durability::Power, |tx| stored.update(tx));
        if let Err(error) = written {
            tracing::error!(image = stored.image.name, "cannot record the import: {error}");
        }
    }

    /// The images with all these tags.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn all(&self, tags: &BTreeMap<String, String>) -> Result<Vec<Image>, Refusal> {
        let images = self.store.read(StoredImage::all)?.into_iter().map(|stored| stored.image);
        Ok(images.filter(|image| has_tags(&image.tags, tags)).collect())
    }

    /// The names of all images by their ids.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn names(&self) -> Result<BTreeMap<Uuid, String>, Refusal> {
        let all = self.store.read(StoredImage::all)?;
        Ok(all.into_iter().map(|stored| (stored.id, stored.image.name)).collect())
    }

    /// An image by name.
    ///
    /// # Errors
    /// `not_found`.
    pub fn find(&self, name: &str) -> Result<Image, Refusal> {
        self.stored(name).map(|stored| stored.image)
    }

    pub(crate) fn stored(&self, name: &str) -> Result<StoredImage, Refusal> {
        let found = self.store.read(|from| StoredImage::by_name(from, name))?;
        let found = found.map_or_else(|| self.by_reference(name), |found| Ok(Some(found)))?;
        found.ok_or_else(|| refusals::no_such("image", name, "handover image list"))
    }

    /// Deletes an image. If it is being imported, the import ends, and its files are removed.
    ///
    /// # Errors
    /// `not_found`, `in_use`.
    pub fn delete(&self, name: &str) -> Result<(), Refusal> {
        let id = self.forget(name)?;
        if self.running.wait(id, ENDING) {
            // Files left by a crash in between are removed at the next start.
            self.files.remove(id)?;
            return Ok(self.sweep_containers().map(drop)?);
        }
        tracing::warn!(image = name, "the disk is slow: the import's files are removed later");
        Ok(())
    }

    /// Removes an image from the store, and asks its import to end.
    fn forget(&self, name: &str) -> Result<Uuid, Refusal> {
        let _allocation = lock(&self.journal.allocation);
        let stored = self.stored(name)?;
        self.expect_unread(&stored)?;
        let instances = self.store.read(StoredInstance::all)?;
        let is_used = |row: &&StoredInstance| {
            row.uses_image(stored.id) || row.uses_kernel_of(&stored.image.name)
        };
        if let Some(user) = instances.iter().find(is_used) {
            let user_name = &user.instance.name;
            let remedy = if !user
                .instance
                .options
                .disks
                .iter()
                .any(|disk| disk.image() == Some(stored.id))
            {
                format!("run `handover instance rm {user_name}` first")
            } else {
                format!(
                    "take the CD-ROM out of the stopped instance: `handover instance detach {user_name} {name}`"
                )
            };
            return Err(Refusal::new(
                Code::InUse,
                format!("the instance {user_name:?} uses the image {name:?}"),
                remedy,
            ));
        }
        self.store.write(Durability::Power, |tx| StoredImage::delete(tx, stored.id))?;
        self.running.cancel(stored.id);
        Ok(stored.id)
    }
}

/// Refuses an image that is not ready.
pub fn expect_ready(stored: &StoredImage) -> Result<(), Refusal> {
    let Image { name, status, error, .. } = &stored.image;
    if *status == ImageStatus::Ready {
        return Ok(());
    }
    let why = error.as_deref().unwrap_or("it is still being imported");
    Err(Refusal::new(
        Code::ImageNotReady,
        format!("the image {name:?} cannot be used: {why}"),
        format!("`handover image show {name}` shows its status"),
    ))
}

fn source(source: ImageSource) -> Source {
    match source {
        ImageSource::Path(path) => Source::Below(path),
        ImageSource::Staged(path) => Source::Staged(path),
    }
}
