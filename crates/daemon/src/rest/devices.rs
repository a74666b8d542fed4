//! `/devices`: what may be handed over.

use api::{AvailableDevice, CreateDevice, Device, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine::{AvailableFilter, RegisterDevice};
use model::Kind;

use super::body::JsonBody;
use super::question::{Key, Query};
use super::{Face, Problem, render};

/// List the functions that could be registered: display functions and everything of vendor 10de, or more with `type`
#[utoipa::path(get, path = "/devices/available", tag = "devices",
    params(("type" = Option<String>, Query, description = "`all`, or a kind: gpu, accelerator, nic, nvme, storage, audio, usb, other")),
    responses((status = 200, body = Vec<AvailableDevice>), (status = "default", body = ErrorBody)))]
pub async fn available(
    State(face): State<Face>,
    query: Query,
) -> Result<Json<Vec<AvailableDevice>>, Problem> {
    let filter = match query.get("type") {
        None => AvailableFilter::Gpus,
        Some("all") => AvailableFilter::All,
        Some(kind) => AvailableFilter::Kind(kind_of(kind)?),
    };
    let found = face.ask(move |engine| engine.available(&filter)).await?;
    Ok(Json(found.into_iter().map(render::available).collect()))
}

fn kind_of(text: &str) -> Result<Kind, Problem> {
    text.parse().map_err(|reason: String| {
        Problem::invalid(reason, "ask for one of them, or for all with type=all")
    })
}

/// List the registered devices
#[utoipa::path(get, path = "/devices", tag = "devices",
    params(("tags" = Option<String>, Query, description = "only those with these labels, each written `tags[key]=value`")),
    responses((status = 200, body = Vec<Device>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>, query: Query) -> Result<Json<Vec<Device>>, Problem> {
    let devices = face.ask(move |engine| engine.devices(&query.tags())).await?;
    Ok(Json(devices.into_iter().map(render::device).collect()))
}

/// Register a device
#[utoipa::path(post, path = "/devices", tag = "devices", request_body = CreateDevice,
    responses((status = 201, body = Device), (status = "default", body = ErrorBody)))]
pub async fn create(
    State(face): State<Face>,
    body: JsonBody,
) -> Result<(StatusCode, Json<Device>), Problem> {
    let wanted: CreateDevice = body.read()?;
    let request = RegisterDevice {
        address: wanted.pci_address,
        name: wanted.name.filter(|name| !name.is_empty()),
        tags: wanted.tags.unwrap_or_default(),
    };
    let device = face.ask(move |engine| engine.register_device(request)).await?;
    Ok((StatusCode::CREATED, Json(render::device(device))))
}

/// Show a registered device
#[utoipa::path(get, path = "/devices/{key}", tag = "devices",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Device), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(key): Key) -> Result<Json<Device>, Problem> {
    face.ask(move |engine| engine.device(&key)).await.map(|device| Json(render::device(device)))
}

/// Take a device off the register; the hardware is not touched
#[utoipa::path(delete, path = "/devices/{key}", tag = "devices",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn delete(State(face): State<Face>, Key(key): Key) -> Result<StatusCode, Problem> {
    face.ask(move |engine| engine.delete_device(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Clear a wedged or quarantined device: a person has looked at it, and what is left of its hand-over is undone
#[utoipa::path(post, path = "/devices/{key}/clear", tag = "devices",
    params(("key" = String, Path, description = "address, id or name")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn clear(State(face): State<Face>, Key(key): Key) -> Result<StatusCode, Problem> {
    face.ask(move |engine| engine.clear_device(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}
