//! Images that are made from nothing or from other images, and their sizes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image::{Cancel, Recipe};
use jiff::Timestamp;
use model::{Code, DiskFormat, Refusal, check_image_name, format_size, shown};
use uuid::Uuid;

use super::Images;
use super::running::{Import, What};
use crate::lock::lock;
use crate::refusals;
use crate::store::{Durability, StoredImage, StoredInstance};
use crate::{Image, ImageDisk, ImageStatus, MadeOf, MakeImage};

/// The smallest and the largest disk, in bytes.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 16 << 40;

/// What the size of a disk is a multiple of.
const SECTOR: u64 = 512;

/// The disk of an image that is read for a volume.
pub struct Reading {
    /// Its file.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// Its size as a guest sees it, in bytes.
    pub size: u64,
    _reads: Import,
}

impl Images {
    /// Records an image and makes it in the background.
    ///
    /// # Errors
    /// `invalid_name`, `invalid_size`, `invalid_request`, `not_found`, `image_not_ready`, `already_exists`,
    /// `too_many_requests`.
    pub fn make(&self, request: MakeImage) -> Result<Image, Refusal> {
        check_image_name(&request.name)?;
        let admission = self.admit()?;
        let (recipe, reads) = self.recipe(&request.content)?;
        let base = reads.as_ref().filter(|_| matches!(recipe, Recipe::Over { .. }));
        let stored = StoredImage {
            id: Uuid::new_v4(),
            has_initrd: false,
            virtual_size: None,
            base: base.map(|base| base.id),
            image: Image {
                name: request.name,
                digest: String::new(),
                status: ImageStatus::Pending,
                size_bytes: None,
                disk_format: Some(recipe.format()),
                has_kernel: false,
                cmdline: None,
                container: None,
                error: None,
                error_code: None,
                created_at: Timestamp::now(),
                tags: request.tags,
            },
        };
        // Before the other image can be removed: a removal sees that it is read.
        let what = What::Image(stored.image.name.clone());
        let import = self.running.begin(stored.id, what, reads.as_ref().map(|other| other.id));
        if let Some(other) = &reads {
            let _allocation = lock(&self.journal.allocation);
            self.readable(&other.image.name)?;
        }
        self.accept(&stored)?;
        let id = stored.id;
        let work = move |files: &image::Store, cancel: &Cancel| files.make(id, &recipe, cancel);
        self.in_thread(stored, work, import, admission)
    }

    /// How an image is made, and the image that is read for it.
    fn recipe(&self, content: &MadeOf) -> Result<(Recipe, Option<StoredImage>), Refusal> {
        match content {
            MadeOf::Nothing { size, format, allocate } => {
                if *allocate && *format != DiskFormat::Raw {
                    return Err(invalid(
                        "only a raw disk can take its whole size from the host's disk at once",
                        "use the format raw, or let the disk grow as it is written",
                    ));
                }
                let (size, format, allocate) = (checked(*size)?, *format, *allocate);
                Ok((Recipe::Empty { size, format, allocate }, None))
            }
            MadeOf::Base { base, size } => {
                let (other, base_format, least) = self.readable(base)?;
                let size = size.map(checked).transpose()?;
                if let Some(size) = size.filter(|size| *size < least) {
                    return Err(smaller(base, least, size));
                }
                Ok((Recipe::Over { base: other.id, base_format, size }, Some(other)))
            }
            MadeOf::Copy { from, format, compress } => {
                if *compress && *format != DiskFormat::Qcow2 {
                    return Err(invalid(
                        "a raw disk cannot be compressed",
                        "use the format qcow2, or leave the compression out",
                    ));
                }
                let (other, from_format, virtual_size) = self.readable(from)?;
                let (from, format, compress) = (other.id, *format, *compress);
                let recipe = Recipe::Convert { from, from_format, virtual_size, format, compress };
                Ok((recipe, Some(other)))
            }
        }
    }

    /// An image with only a disk, that is ready; with the disk's format and size.
    fn readable(&self, name: &str) -> Result<(StoredImage, DiskFormat, u64), Refusal> {
        let stored = self.stored(name)?;
        if stored.image.status != ImageStatus::Ready {
            return Err(Refusal::new(
                Code::ImageNotReady,
                format!("the image {name:?} cannot be used yet"),
                format!("`handover image show {name}` shows its status"),
            ));
        }
        match (stored.image.disk_format, stored.virtual_size) {
            (Some(format), Some(size)) if !stored.image.has_kernel => Ok((stored, format, size)),
            (Some(_), _) => Err(invalid(
                format!("the image {name:?} has a kernel besides its disk"),
                "import its disk alone: `handover image import NAME --disk FILE --format FORMAT`",
            )),
            (None, _) => Err(invalid(
                format!("the image {name:?} has no disk"),
                "use an image with a disk; `handover image list` shows them",
            )),
        }
    }

    /// Changes the size of an image's disk. Its digest is unknown afterwards.
    ///
    /// # Errors
    /// `not_found`, `image_not_ready`, `invalid_size`, `in_use` if an instance or another image uses it.
    pub fn resize(&self, name: &str, size: u64, shrink: bool) -> Result<Image, Refusal> {
        // Held until the size is changed: no one may begin to use the image meanwhile. It is quick, as only tables change.
        let _allocation = lock(&self.journal.allocation);
        let (mut stored, format, now) = self.readable(name)?;
        let size = checked(size)?;
        if size < now && !shrink {
            return Err(Refusal::new(
                Code::InvalidSize,
                format!(
                    "the disk of the image {name:?} has {}, more than {}: its end would be lost",
                    shown::bytes(now),
                    format_size(size)
                ),
                "shrink its file system and partitions first, then ask for it with `--shrink` (`shrink`)",
            ));
        }
        self.expect_unread(&stored)?;
        self.expect_no_instance(&stored)?;
        let length = self.files.resize(stored.id, format, size, size < now)?;
        stored.virtual_size = Some(size);
        stored.image.size_bytes = Some(length);
        stored.image.digest = String::new();
        self.store.write(Durability::Power, |tx| stored.update(tx))?;
        self.journal.notify();
        Ok(stored.image)
    }

    /// Checks that no other image is made from this one, or is a layer over it.
    pub(super) fn expect_unread(&self, stored: &StoredImage) -> Result<(), Refusal> {
        let all = self.store.read(StoredImage::all)?;
        let layer = all.iter().find(|other| {
            other.base == Some(stored.id) && other.image.status != ImageStatus::Failed
        });
        let (user, how, remedy) = match (layer, self.running.reader(stored.id)) {
            (Some(layer), _) => {
                let name = &layer.image.name;
                (format!("image {name:?}"), "is a layer over", format!("image rm {name}"))
            }
            (None, Some(What::Image(name))) => {
                (format!("image {name:?}"), "is being made from", format!("image rm {name}"))
            }
            (None, Some(What::Volume(name))) => {
                (format!("volume {name:?}"), "is being made from", format!("volume rm {name}"))
            }
            (None, None) => return Ok(()),
        };
        Err(Refusal::new(
            Code::InUse,
            format!("the {user} {how} the image {:?}", stored.image.name),
            format!("run `handover {remedy}` first"),
        ))
    }

    /// The disk of an image that a volume is made from, which stays until the returned value is dropped: its path, format and size.
    pub(crate) fn for_volume(
        &self,
        id: Uuid,
        volume: &str,
        image: &str,
    ) -> Result<Reading, Refusal> {
        let (stored, format, size) = self.readable(image)?;
        let reads = self.running.begin(id, What::Volume(volume.to_owned()), Some(stored.id));
        let _allocation = lock(&self.journal.allocation);
        let (again, ..) = self.readable(image)?;
        if again.id != stored.id {
            return Err(refusals::no_such("image", image, "handover image list"));
        }
        Ok(Reading { path: self.files.paths(stored.id).disk, format, size, _reads: reads })
    }

    fn expect_no_instance(&self, stored: &StoredImage) -> Result<(), Refusal> {
        let instances = self.store.read(StoredInstance::all)?;
        let Some(user) = instances.iter().find(|row| row.uses_image(stored.id)) else {
            return Ok(());
        };
        let (instance, name) = (&user.instance.name, &stored.image.name);
        Err(Refusal::new(
            Code::InUse,
            format!("the instance {instance:?} uses the image {name:?}"),
            format!(
                "make a larger layer over it instead: `handover image create NEW --base {name} --size SIZE`"
            ),
        ))
    }

    /// What is known of the disks of images, by name.
    ///
    /// # Errors
    /// `state_unusable`.
    pub fn disks(&self) -> Result<BTreeMap<String, ImageDisk>, Refusal> {
        let all = self.store.read(StoredImage::all)?;
        let name = |id: Uuid| {
            let base = all.iter().find(|other| other.id == id);
            base.map_or_else(|| id.to_string(), |base| base.image.name.clone())
        };
        let disk = |stored: &StoredImage| ImageDisk {
            virtual_size: stored.virtual_size,
            used: self.files.used(stored.id),
            base: stored.base.map(name),
        };
        Ok(all.iter().map(|stored| (stored.image.name.clone(), disk(stored))).collect())
    }

    /// Ends what a crash may have interrupted while the size of an image was changed.
    pub(super) fn settle(&self, known: &[StoredImage]) {
        for stored in known.iter().filter(|stored| stored.image.status == ImageStatus::Ready) {
            let Some(format) = stored.image.disk_format else { continue };
            let name = &stored.image.name;
            match self.files.settle(stored.id, format, stored.base.is_some()) {
                Ok(size) if stored.virtual_size.is_some_and(|known| known != size) => {
                    let mut changed = stored.clone();
                    changed.virtual_size = Some(size);
                    changed.image.digest = String::new();
                    self.record(&changed);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(image = name, "cannot read its disk: {error}"),
            }
        }
    }
}

/// Checks the size of a disk, and rounds it up to whole sectors.
fn checked(size: u64) -> Result<u64, Refusal> {
    if (LEAST..=MOST).contains(&size) {
        return Ok(size.next_multiple_of(SECTOR));
    }
    Err(Refusal::new(
        Code::InvalidSize,
        format!("a disk cannot have {}", format_size(size)),
        format!("ask for {} to {}", format_size(LEAST), format_size(MOST)),
    ))
}

fn smaller(base: &str, least: u64, asked: u64) -> Refusal {
    Refusal::new(
        Code::InvalidSize,
        format!(
            "the disk of the image {base:?} has {}, more than the requested {}",
            shown::bytes(least),
            shown::bytes(asked)
        ),
        "ask for its size or more, or leave the size out",
    )
}

fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message, remedy)
}
