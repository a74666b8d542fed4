//! Images: checks and performs requests to import one.

use std::path::PathBuf;

use api::{ImportImage, MakeImage, ResizeImage};
use engine::{Engine, ImageSource, MadeOf};
use model::{DiskFormat, Refusal, parse_size};

use crate::refusals::{invalid, not_implemented};
use crate::render;

/// The images with these tags.
///
/// # Errors
/// The store cannot be read.
pub fn list(engine: &Engine, tags: &api::Tags) -> Result<Vec<api::Image>, Refusal> {
    let mut disks = engine.images().disks()?;
    let shown = |image: engine::Image| {
        let disk = disks.remove(&image.name).unwrap_or_default();
        render::image(image, disk)
    };
    Ok(engine.images().all(tags)?.into_iter().map(shown).collect())
}

/// An image, by its name.
///
/// # Errors
/// `not_found`.
pub fn show(engine: &Engine, name: &str) -> Result<api::Image, Refusal> {
    shown(engine, engine.images().find(name)?)
}

fn shown(engine: &Engine, image: engine::Image) -> Result<api::Image, Refusal> {
    let disk = engine.images().disks()?.remove(&image.name).unwrap_or_default();
    Ok(render::image(image, disk))
}

/// Makes an image: empty, over another one, or as a copy of another one.
///
/// # Errors
/// `invalid_name`, `invalid_size`, `invalid_request`, `not_found`, `image_not_ready`, `already_exists`,
/// `too_many_requests`.
pub fn make(engine: &Engine, name: String, wanted: MakeImage) -> Result<api::Image, Refusal> {
    let MakeImage { size, format, allocate, base, from, compress, tags } = wanted;
    let size = size.as_deref().map(parse_size).transpose()?;
    let format = format.as_deref().map(|text| disk_format(Some(text))).transpose()?;
    let content = match (base, from, size, allocate, compress) {
        (None, None, Some(size), allocate, None) => {
            let allocate = allocate.unwrap_or_default();
            let usual = if allocate { DiskFormat::Raw } else { DiskFormat::Qcow2 };
            MadeOf::Nothing { size, format: format.unwrap_or(usual), allocate }
        }
        (Some(base), None, size, None, None) if format.is_none() => MadeOf::Base { base, size },
        (None, Some(from), None, None, compress) => {
            let format = format.ok_or_else(|| {
                invalid("the format of the copy is missing", "set `format` to qcow2 or raw")
            })?;
            MadeOf::Copy { from, format, compress: compress.unwrap_or_default() }
        }
        _ => {
            return Err(invalid(
                "it is not clear what the image is made of",
                "give `size` with `format` and `allocate` for an empty one; `base` and `size` for a layer, which is qcow2; \
                 `from`, `format` and `compress` for a copy",
            ));
        }
    };
    let tags = tags.unwrap_or_default();
    shown(engine, engine.images().make(engine::MakeImage { name, content, tags })?)
}

/// Changes the size of an image's disk.
///
/// # Errors
/// `not_found`, `invalid_size`, `in_use`, `image_not_ready`.
pub fn resize(engine: &Engine, name: &str, wanted: &ResizeImage) -> Result<api::Image, Refusal> {
    let size = parse_size(&wanted.size)?;
    let shrink = wanted.shrink.unwrap_or_default();
    shown(engine, engine.images().resize(name, size, shrink)?)
}

/// Imports an image from files below the configured directories.
///
/// # Errors
/// `invalid_name`, `invalid_image`, `already_exists`; `not_implemented` if no file is named.
pub fn import(engine: &Engine, wanted: ImportImage) -> Result<api::Image, Refusal> {
    let format = wanted.format.as_deref().map(|text| disk_format(Some(text))).transpose()?;
    if wanted.disk.is_none() && wanted.kernel.is_none() && wanted.initrd.is_none() {
        return pull(engine, &wanted.name);
    }
    let path = |path: String| ImageSource::Path(PathBuf::from(path));
    let disk = match (wanted.disk, format) {
        (Some(disk), Some(format)) => Some((path(disk), format)),
        (Some(_), None) => return Err(no_format()),
        (None, _) => None,
    };
    let request = engine::ImportImage {
        name: wanted.name,
        disk,
        kernel: wanted.kernel.map(path),
        initrd: wanted.initrd.map(path),
        cmdline: wanted.cmdline,
        tags: wanted.tags.unwrap_or_default(),
    };
    shown(engine, engine.images().import(request)?)
}

/// A name without files means pulling a container image; only an imported image is returned.
fn pull(engine: &Engine, name: &str) -> Result<api::Image, Refusal> {
    model::check_image_name(name)?;
    show(engine, name).map_err(|_| {
        not_implemented(
            &format!("pulling container images; no image {name:?} is imported"),
            "import a disk image or a kernel: `handover image import`, or name the files in `disk` (with `format`), \
             `kernel` and `initrd`",
        )
    })
}

/// Parses the format of a disk.
///
/// # Errors
/// The format is missing or unknown.
pub fn disk_format(text: Option<&str>) -> Result<DiskFormat, Refusal> {
    match text {
        Some("raw") => Ok(DiskFormat::Raw),
        Some("qcow2") => Ok(DiskFormat::Qcow2),
        Some(other) => Err(invalid(
            format!("unknown disk format {other:?}"),
            "use raw or qcow2; convert other formats: qemu-img convert -O qcow2 FILE NEW",
        )),
        None => Err(no_format()),
    }
}

fn no_format() -> Refusal {
    invalid(
        "the disk's format is missing; it is never guessed, because a guest could write another format's header",
        "set the format to raw or qcow2; `qemu-img info FILE` prints it",
    )
}
