//! `/images`: the disk images and kernels that machines boot.

use api::{ErrorBody, Image, ImportImage, MakeImage, PrunedImages, ResizeImage, schema};
use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use service::{images, refusals};

use super::body::JsonBody;
use super::query::{Key, Query};
use super::{Face, Problem, not_offered, upload};

/// List the images
#[utoipa::path(get, path = "/images", tag = "images",
    params(("tags" = Option<schema::QueryTags>, Query, style = DeepObject, explode, description = "only those with these tags, each as `tags[key]=value`")),
    responses((status = 200, body = Vec<Image>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>, query: Query) -> Result<Json<Vec<Image>>, Problem> {
    let tags = query.tags()?;
    face.ask(move |engine| images::list(engine, &tags)).await.map(Json)
}

/// Show an image
#[utoipa::path(get, path = "/images/{name}", tag = "images",
    params(("name" = String, Path, description = "name; slashes may be encoded")),
    responses((status = 200, body = Image), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(name): Key) -> Result<Json<Image>, Problem> {
    face.ask(move |engine| images::show(engine, &name)).await.map(Json)
}

/// Remove an image, or cancel its import
#[utoipa::path(delete, path = "/images/{name}", tag = "images",
    params(("name" = String, Path, description = "name; slashes may be encoded")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn delete(State(face): State<Face>, Key(name): Key) -> Result<StatusCode, Problem> {
    face.ask(move |engine| engine.images().delete(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove the container images that no instance uses
#[utoipa::path(delete, path = "/images", tag = "images",
    responses((status = 200, body = PrunedImages), (status = "default", body = ErrorBody)))]
pub async fn prune(State(face): State<Face>) -> Result<Json<PrunedImages>, Problem> {
    face.ask(images::prune).await.map(Json)
}

/// Import an image: from files below the daemon's image directories (JSON), or uploaded (`multipart/form-data` with the
/// text fields `name`, `format`, `cmdline` and the files `disk`, `kernel`, `initrd`); without files, pull a container image
#[utoipa::path(post, path = "/images", tag = "images",
    request_body(content((ImportImage = "application/json"), (schema::UploadImage = "multipart/form-data"))),
    responses((status = 202, body = Image), (status = "default", body = ErrorBody)))]
pub async fn import(
    State(face): State<Face>,
    request: Request,
) -> Result<(StatusCode, Json<Image>), Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let boundary = content_type.and_then(|value| multer::parse_boundary(value).ok());
    let image = if let Some(boundary) = boundary {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        upload::receive(&face, request.into_body(), boundary, length).await?
    } else {
        let body = JsonBody::from_request(request, &()).await?;
        let (wanted, unknown): (ImportImage, _) = body.read_noting()?;
        let image = face.ask(move |engine| images::import(engine, wanted)).await?;
        Image { warnings: refusals::ignored(&unknown), ..image }
    };
    Ok((StatusCode::ACCEPTED, Json(image)))
}

/// Make an image: an empty one, a layer over another one, or a copy of another one in a format
#[utoipa::path(post, path = "/images/{name}", tag = "images", request_body = MakeImage,
    params(("name" = schema::ImageName, Path, description = "name of the new image; slashes may be encoded")),
    responses((status = 202, body = Image), (status = "default", body = ErrorBody)))]
pub async fn make(
    State(face): State<Face>,
    Key(name): Key,
    body: JsonBody,
) -> Result<(StatusCode, Json<Image>), Problem> {
    if name.ends_with("/tag") {
        return Err(not_offered::tagging());
    }
    let wanted: MakeImage = body.read()?;
    let image = face.ask(move |engine| images::make(engine, name, wanted)).await?;
    Ok((StatusCode::ACCEPTED, Json(image)))
}

/// Change the size of an image's disk, if no instance and no other image uses it
#[utoipa::path(patch, path = "/images/{name}", tag = "images", request_body = ResizeImage,
    params(("name" = String, Path, description = "name; slashes may be encoded")),
    responses((status = 200, body = Image), (status = "default", body = ErrorBody)))]
pub async fn resize(
    State(face): State<Face>,
    Key(name): Key,
    body: JsonBody,
) -> Result<Json<Image>, Problem> {
    let wanted: ResizeImage = body.read()?;
    face.ask(move |engine| images::resize(engine, &name, &wanted)).await.map(Json)
}
