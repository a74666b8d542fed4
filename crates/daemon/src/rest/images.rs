//! `/images`: what machines boot.

use std::path::PathBuf;

use api::{ErrorBody, Image, ImportImage};
use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use engine::ImageSource;
use model::DiskFormat;

use super::body::JsonBody;
use super::question::Key;
use super::{Face, Problem, render, upload};

/// List the images
#[utoipa::path(get, path = "/images", tag = "images",
    responses((status = 200, body = Vec<Image>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>) -> Result<Json<Vec<Image>>, Problem> {
    let images = face.ask(engine::Engine::images).await?;
    Ok(Json(images.into_iter().map(render::image).collect()))
}

/// Show an image
#[utoipa::path(get, path = "/images/{name}", tag = "images",
    params(("name" = String, Path, description = "the name, its slashes encoded or not")),
    responses((status = 200, body = Image), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(name): Key) -> Result<Json<Image>, Problem> {
    face.ask(move |engine| engine.image(&name)).await.map(|image| Json(render::image(image)))
}

/// Remove an image
#[utoipa::path(delete, path = "/images/{name}", tag = "images",
    params(("name" = String, Path, description = "the name, its slashes encoded or not")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn delete(State(face): State<Face>, Key(name): Key) -> Result<StatusCode, Problem> {
    face.ask(move |engine| engine.delete_image(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Import an image: from files below the daemon's image directories (JSON), or uploaded (`multipart/form-data` with the
/// text fields `name`, `format`, `cmdline` and the files `disk`, `kernel`, `initrd`)
#[utoipa::path(post, path = "/images", tag = "images", request_body = ImportImage,
    responses((status = 202, body = Image), (status = "default", body = ErrorBody)))]
pub async fn import(
    State(face): State<Face>,
    request: Request,
) -> Result<(StatusCode, Json<Image>), Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let boundary = content_type.and_then(|value| multer::parse_boundary(value).ok());
    let image = if let Some(boundary) = boundary {
        upload::receive(&face, request.into_body(), boundary).await?
    } else {
        let body = JsonBody::from_request(request, &()).await?;
        import_by_path(&face, body.read()?).await?
    };
    Ok((StatusCode::ACCEPTED, Json(render::image(image))))
}

async fn import_by_path(face: &Face, wanted: ImportImage) -> Result<engine::Image, Problem> {
    if wanted.disk.is_none() && wanted.kernel.is_none() && wanted.initrd.is_none() {
        return pull(face, wanted.name).await;
    }
    let path = |path: String| ImageSource::Path(PathBuf::from(path));
    let disk = match wanted.disk {
        Some(disk) => Some((path(disk), disk_format(wanted.format.as_deref())?)),
        None => None,
    };
    let request = engine::ImportImage {
        name: wanted.name,
        disk,
        kernel: wanted.kernel.map(path),
        initrd: wanted.initrd.map(path),
        cmdline: wanted.cmdline,
        tags: wanted.tags.unwrap_or_default(),
    };
    face.ask(move |engine| engine.import_image(request)).await
}

/// A name alone is a container image to be pulled: an image that is there already serves.
async fn pull(face: &Face, name: String) -> Result<engine::Image, Problem> {
    model::check_image_name(&name)?;
    let wanted = name.clone();
    face.ask(move |engine| engine.image(&wanted)).await.map_err(|_| {
        Problem::not_implemented(
            &format!("pulling of container images, and no image {name:?} yet"),
            "import a disk image or a kernel: `handover image import`, or name the files in `disk` (with `format`), \
             `kernel` and `initrd`",
        )
    })
}

/// The format of a disk, which is always said.
pub fn disk_format(text: Option<&str>) -> Result<DiskFormat, Problem> {
    match text {
        Some("raw") => Ok(DiskFormat::Raw),
        Some("qcow2") => Ok(DiskFormat::Qcow2),
        Some(other) => Err(Problem::invalid(
            format!("{other:?} is no format of disks"),
            "format is raw or qcow2; convert others: qemu-img convert -O qcow2 FILE NEW",
        )),
        None => Err(Problem::invalid(
            "the disk's format is not said, and it is never guessed: a guest could write another format's header",
            "add the format, raw or qcow2; `qemu-img info FILE` shows which",
        )),
    }
}
