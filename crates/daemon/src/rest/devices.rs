//! `/devices`: the register of devices that may be handed over.

use api::{AvailableDevice, Cleared, CreateDevice, Device, ErrorBody, schema};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use service::devices;

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
    let wanted: CreateDevice = body.read()?;
    let device = face.ask(move |engine| devices::register(engine, wanted)).await?;
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
pub async fn clear(State(face): State<Face>, Key(key): Key) -> Result<Response, Problem> {
    let notes = face.ask(move |engine| engine.devices().clear(&key)).await?;
    if notes.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(Cleared { notes }).into_response())
}
