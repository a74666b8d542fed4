//! Images: checks and performs requests to import one.

use std::path::PathBuf;

use api::{CreateInstance, ImportImage, MakeImage, PrunedImages, ResizeImage};
use engine::{ContainerSource, Engine, ImageSource, MadeOf, PullOptions};
use model::{Code, DiskFormat, Refusal, parse_size};

use crate::refusals::invalid;
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
    let progress = match &image.container {
        Some(_) => engine.images().progress(&image.name).unwrap_or_default(),
        None => None,
    };
    let mut shown = render::image(image, disk);
    if let (Some(container), Some((done, total))) = (&mut shown.container, progress) {
        (container.pulled_bytes, container.total_bytes) = (Some(done), Some(total));
    }
    Ok(shown)
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

/// Imports an image from files below the configured directories, or pulls a container image.
///
/// # Errors
/// `invalid_name`, `invalid_image`, `invalid_request`, `already_exists`.
pub fn import(engine: &Engine, wanted: ImportImage) -> Result<api::Image, Refusal> {
    let format = wanted.format.as_deref().map(|text| disk_format(Some(text))).transpose()?;
    if wanted.disk.is_none() && wanted.kernel.is_none() && wanted.initrd.is_none() {
        return pull(engine, wanted);
    }
    if wanted.from.is_some() || wanted.username.is_some() || wanted.password.is_some() {
        return Err(invalid(
            "it is not clear whether files are imported or a container image is pulled",
            "give either `disk`, `kernel` and `initrd`, or `from`, `username` and `password`",
        ));
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

/// A name without files means pulling a container image. One that is there already is returned as it is.
fn pull(engine: &Engine, wanted: ImportImage) -> Result<api::Image, Refusal> {
    let name = wanted.name;
    model::check_image_name(&name)?;
    if let Ok(found) = show(engine, &name)
        && found.status != "failed"
        && wanted.from.is_none()
    {
        return Ok(found);
    }
    let source = ContainerSource::parse(wanted.from.as_deref().unwrap_or(&name))?;
    let credentials = match (wanted.username, wanted.password) {
        (Some(name), password) => Some((name, password.unwrap_or_default())),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(invalid("a password without a name", "also give `username`"));
        }
    };
    let plain_http = match (&source, wanted.plain_http) {
        (ContainerSource::Registry { reference }, Some(true)) => {
            vec![reference.registry().to_owned()]
        }
        _ => Vec::new(),
    };
    let options = PullOptions { credentials, plain_http, ..PullOptions::default() };
    let tags = wanted.tags.unwrap_or_default();
    shown(engine, engine.images().pull(engine::PullImage { name, source, options, tags })?)
}

/// A pull for a new instance, which is waited for.
#[derive(Debug)]
pub struct AwaitedPull {
    name: String,
    /// Whether its name disappears when it has succeeded.
    is_again: bool,
}

/// Begins to pull the image of a new instance, if the request asks for it.
///
/// # Errors
/// `invalid_request` if `pull` is none of its words; those of [`import`].
pub fn pull_before(
    engine: &Engine,
    wanted: &CreateInstance,
) -> Result<Option<AwaitedPull>, Refusal> {
    let status = |name: &str| engine.images().find(name).map(|image| image.status);
    let name = wanted.image.clone().filter(|name| !name.is_empty());
    let (name, again) = match (wanted.pull.as_deref(), name) {
        (None | Some("never"), _) | (Some("missing" | "always"), None) => return Ok(None),
        (Some("missing"), Some(name)) => match status(&name) {
            Ok(engine::ImageStatus::Ready) => return Ok(None),
            Ok(engine::ImageStatus::Failed) | Err(_) => (name, false),
            Ok(_) => return Ok(Some(AwaitedPull { name, is_again: false })),
        },
        (Some("always"), Some(name)) => (name, true),
        (Some(other), _) => {
            let message = format!("unknown `pull` {other:?}");
            return Err(invalid(message, "use missing, always or never"));
        }
    };
    model::check_image_name(&name)?;
    let source = ContainerSource::parse(&name)?;
    let (options, tags) = (PullOptions::default(), api::Tags::new());
    let request = engine::PullImage { name: name.clone(), source, options, tags };
    let pull = match again {
        true => engine.images().pull_again(request)?,
        false => engine.images().pull(request)?,
    };
    let is_again = pull.name != name;
    Ok(Some(AwaitedPull { name: pull.name, is_again }))
}

/// Whether a pull has succeeded.
///
/// # Errors
/// Why it has failed.
pub fn is_pulled(engine: &Engine, pull: &AwaitedPull) -> Result<bool, Refusal> {
    // Before its status: the pull ends after that has changed.
    let found = engine.images().is_pulling(&pull.name);
    let found = found.and_then(|runs| Ok((engine.images().find(&pull.name)?, runs)));
    let (image, runs) = match found {
        Err(refusal) if pull.is_again && refusal.code == Code::NotFound => return Ok(true),
        found => found?,
    };
    match image.status {
        engine::ImageStatus::Ready if pull.is_again && !runs => Err(Refusal::new(
            Code::Internal,
            "the image was pulled, and could not take its name",
            "check the daemon's log: journalctl -u handover",
        )),
        engine::ImageStatus::Ready => Ok(!pull.is_again),
        engine::ImageStatus::Failed => {
            if pull.is_again {
                // The earlier image stays.
                let _ = engine.images().delete(&pull.name);
            }
            let why = image.error.unwrap_or_else(|| "the reason is not known".to_owned());
            let code = image.error_code.unwrap_or(Code::Internal);
            Err(Refusal::new(
                code,
                format!("the image could not be pulled: {why}"),
                "see the message",
            ))
        }
        _ => Ok(false),
    }
}

/// Removes the container images that no instance uses.
///
/// # Errors
/// `state_unusable`, and if files cannot be removed.
pub fn prune(engine: &Engine) -> Result<PrunedImages, Refusal> {
    let pruned = engine.images().prune()?;
    Ok(PrunedImages { images: pruned.names, freed_bytes: pruned.freed })
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
