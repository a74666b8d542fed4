//! Volumes: checks requests, and renders volumes with the instances that have them.

use std::fs::File;

use api::{CreateVolume, ResizeVolume, VolumeAttachment};
use engine::{Attachment, Cancel, Engine, Volume};
use model::{Refusal, format_size};
use uuid::Uuid;

use crate::disks::new_file;
use crate::refusals::{self, invalid};

/// The unit of `size_gb`, in bytes.
const GIB: u64 = 1 << 30;

/// The volumes with these tags.
///
/// # Errors
/// The store cannot be read.
pub fn list(engine: &Engine, tags: &api::Tags) -> Result<Vec<api::Volume>, Refusal> {
    let all = engine.volumes().all(tags)?.into_iter();
    Ok(all.map(|(volume, attachments)| rendered(engine, volume, attachments)).collect())
}

/// A volume by id or name.
///
/// # Errors
/// `not_found`.
pub fn show(engine: &Engine, key: &str) -> Result<api::Volume, Refusal> {
    let (volume, attachments) = engine.volumes().find(key)?;
    Ok(rendered(engine, volume, attachments))
}

/// Creates a volume, empty or with the content of an image; `cancel` ends that. `ignored` has the names of unknown fields.
///
/// # Errors
/// `invalid_name`, `invalid_size`, `invalid_request`, `already_exists`, `insufficient_resources`.
pub fn create(
    engine: &Engine,
    wanted: CreateVolume,
    ignored: &[String],
    cancel: &Cancel,
) -> Result<api::Volume, Refusal> {
    let id = wanted.id.filter(|id| !id.is_empty()).map(|id| read_id(&id)).transpose()?;
    let size = wanted.size_gb.saturating_mul(GIB);
    let request = engine::CreateVolume {
        name: wanted.name,
        id,
        file: new_file(size, wanted.format.as_deref(), wanted.allocate)?,
        tags: wanted.tags.unwrap_or_default(),
    };
    let volume = match wanted.image {
        None => engine.volumes().create(request)?,
        Some(image) => engine.volumes().create_from_image(request, &image, cancel)?,
    };
    let warnings = refusals::ignored(ignored);
    Ok(api::Volume { warnings, ..rendered(engine, volume, Vec::new()) })
}

/// Creates a volume with an ext4 file system that has the files of an archive. The format and the allocation are the usual ones. `cancel` ends it.
///
/// # Errors
/// As [`create`]; `invalid_request` if the archive is not accepted.
pub fn create_from_archive(
    engine: &Engine,
    wanted: CreateVolume,
    archive: File,
    cancel: &Cancel,
) -> Result<api::Volume, Refusal> {
    let id = wanted.id.filter(|id| !id.is_empty()).map(|id| read_id(&id)).transpose()?;
    let request = engine::CreateVolume {
        name: wanted.name,
        id,
        file: new_file(wanted.size_gb.saturating_mul(GIB), None, None)?,
        tags: wanted.tags.unwrap_or_default(),
    };
    let volume = engine.volumes().create_from_archive(request, archive, cancel)?;
    Ok(rendered(engine, volume, Vec::new()))
}

/// Makes a volume larger.
///
/// # Errors
/// `not_found`, `invalid_size`, `in_use`, `insufficient_resources`.
pub fn resize(engine: &Engine, key: &str, wanted: &ResizeVolume) -> Result<api::Volume, Refusal> {
    let volume = engine.volumes().grow(key, wanted.size_gb.saturating_mul(GIB))?;
    show(engine, &volume.id.to_string())
}

fn read_id(text: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| {
        invalid(format!("{text:?} is not the id of a volume"), "use a UUID, or leave the id out")
    })
}

fn rendered(engine: &Engine, volume: Volume, attachments: Vec<Attachment>) -> api::Volume {
    let attachment = |one: Attachment| VolumeAttachment {
        instance_id: one.instance.to_string(),
        instance_name: one.name,
        mount_path: one.mount_path.unwrap_or_default(),
        readonly: one.read_only,
    };
    api::Volume {
        id: volume.id.to_string(),
        name: volume.name,
        size_gb: volume.size.div_ceil(GIB),
        size: format_size(volume.size),
        used_bytes: engine.volumes().used(volume.id),
        format: volume.format.as_str().to_owned(),
        made_with: volume.made_with.map(|id| id.to_string()),
        created_at: volume.created_at.to_string(),
        attachments: attachments.into_iter().map(attachment).collect(),
        tags: volume.tags,
        warnings: Vec::new(),
    }
}
