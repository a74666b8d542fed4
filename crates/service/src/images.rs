//! Images: checks and performs requests to import one.

use std::path::PathBuf;

use api::ImportImage;
use engine::{Engine, ImageSource};
use model::{DiskFormat, Refusal};

use crate::refusals::{invalid, not_implemented};
use crate::render;

/// The images with these tags.
///
/// # Errors
/// The store cannot be read.
pub fn list(engine: &Engine, tags: &api::Tags) -> Result<Vec<api::Image>, Refusal> {
    Ok(engine.images().all(tags)?.into_iter().map(render::image).collect())
}

/// An image, by its name.
///
/// # Errors
/// `not_found`.
pub fn show(engine: &Engine, name: &str) -> Result<api::Image, Refusal> {
    engine.images().find(name).map(render::image)
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
    engine.images().import(request).map(render::image)
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
