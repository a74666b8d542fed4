//! `/devices`: the register of devices that may be handed over.

use api::{
    AvailableDevice, BindDevice, Cleared, CreateDevice, Device, ErrorBody, Released, ResetDevice,
    UnbindDevice, schema,
};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use service::{devices, refusals};

use super::body::JsonBody;
use super::query::{Key, Query};
use super::{Face, Problem};

/// List functions that can be handed over and are not claimed: display functions and vendor 10de, or by `type`
#[utoipa::path(get, path = "/devices/available", tag = "devices",
    params(("type" = Option<schema::KindOrAll>, Query, description = "`all`, or a kind")),
    responses((status = 200, body = Vec<AvailableDevice>), (status = "default", body = ErrorBody)))]
pub async fn available(
    State(face): State<Face>,
    query: Query,
) -> Result<Json<Vec<AvailableDevice>>, Problem> {
    let kind = query.get("type")?.map(str::to_owned);
    face.ask(move |engine| devices::available(engine, kind.as_deref())).await.map(Json)
}

/// List the registered devices
#[utoipa::path(get, path = "/devices", tag = "devices",
    params(("tags" = Option<schema::QueryTags>, Query, style = DeepObject, explode, description = "only those with these tags, each as `tags[key]=value`")),
    responses((status = 200, body = Vec<Device>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>, query: Query) -> Result<Json<Vec<Device>>, Problem> {
    let tags = query.tags()?;
    face.ask(move |engine| devices::list(engine, &tags)).await.map(Json)
}

/// Register a device
#[utoipa::path(post, path = "/devices", tag = "devices", request_body = CreateDevice,
    responses((status = 201, body = Device), (status = "default", body = ErrorBody)))]
pub async fn create(
    State(face): State<Face>,
    body: JsonBody,
) -> Result<(StatusCode, Json<Device>), Problem> {
    let (wanted, unknown): (CreateDevice, _) = body.read_noting()?;
    let device = face.ask(move |engine| devices::register(engine, wanted)).await?;
    let device = Device { warnings: refusals::ignored(&unknown), ..device };
    Ok((StatusCode::CREATED, Json(device)))
}

/// Show a registered device
#[utoipa::path(get, path = "/devices/{key}", tag = "devices",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Device), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(key): Key) -> Result<Json<Device>, Problem> {
    face.ask(move |engine| devices::show(engine, &key)).await.map(Json)
}

/// Unregister a device; the hardware is not touched
#[utoipa::path(delete, path = "/devices/{key}", tag = "devices",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn delete(State(face): State<Face>, Key(key): Key) -> Result<StatusCode, Problem> {
    face.ask(move |engine| engine.devices().delete(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Clear a wedged or quarantined device after checking it, and undo what is left of its hand-over
#[utoipa::path(post, path = "/devices/{key}/clear", tag = "devices",
    params(("key" = String, Path, description = "address, id or name")),
    responses((status = 204), (status = 200, body = Cleared, description = "cleared, with notes"),
        (status = "default", body = ErrorBody)))]
pub async fn clear(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Response, Problem> {
    body.expect_no_fields()?;
    let notes = face.ask(move |engine| engine.devices().clear(&key)).await?;
    if notes.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(Cleared { notes }).into_response())
}

/// Bind a device to its vfio driver, with its IOMMU group and companions, as a claim of an owner. Idempotent (200)
#[utoipa::path(post, path = "/devices/{key}/bind", tag = "devices", request_body = Option<BindDevice>,
    params(("key" = String, Path, description = "address, id or name")),
    responses((status = 201, body = api::Claim), (status = 200, body = api::Claim, description = "it was bound already"),
        (status = "default", body = ErrorBody)))]
pub async fn bind(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Response, Problem> {
    let how: BindDevice = body.read_or_default()?;
    let (claim, new) = face.ask(move |engine| devices::bind(engine, &key, how)).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(claim)).into_response())
}

/// Return a device that was bound to its driver, and end the claim
#[utoipa::path(post, path = "/devices/{key}/unbind", tag = "devices", request_body = Option<UnbindDevice>,
    params(("key" = String, Path, description = "address, id or name")),
    responses((status = 204, description = "the previous state is restored"),
        (status = 200, body = Released, description = "done, with notes for the owner"),
        (status = "default", body = ErrorBody)))]
pub async fn unbind(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Response, Problem> {
    let how: UnbindDevice = body.read_or_default()?;
    let done = face.ask(move |engine| devices::unbind(engine, &key, how)).await?;
    Ok(with_notes(done))
}

/// Reset a device, with its assembly, as a claim of an owner
#[utoipa::path(post, path = "/devices/{key}/reset", tag = "devices", request_body = Option<ResetDevice>,
    params(("key" = String, Path, description = "address, id or name")),
    responses((status = 204, description = "reset; if it was not bound, the previous state is restored"),
        (status = 200, body = Released, description = "done, with notes for the owner"),
        (status = "default", body = ErrorBody)))]
pub async fn reset(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Response, Problem> {
    let how: ResetDevice = body.read_or_default()?;
    let done = face.ask(move |engine| devices::reset(engine, &key, how)).await?;
    face.leases_changed();
    Ok(with_notes(done))
}

fn with_notes(done: Released) -> Response {
    if done.notes.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }
    Json(done).into_response()
}
