//! What the host is, has and can.

use std::sync::Arc;

use api::{Capabilities, ErrorBody, Health, Resources};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use service::host;

use super::query::Query;
use super::{Face, Problem};

/// Say that the daemon answers
#[utoipa::path(get, path = "/health", tag = "host", responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// Show what the host has and what is given to instances
#[utoipa::path(get, path = "/resources", tag = "host",
    responses((status = 200, body = Resources), (status = "default", body = ErrorBody)))]
pub async fn resources(State(face): State<Face>) -> Result<Json<Resources>, Problem> {
    face.ask(host::resources).await.map(Json)
}

/// Show what this daemon can do
#[utoipa::path(get, path = "/capabilities", tag = "host",
    responses((status = 200, body = Capabilities), (status = "default", body = ErrorBody)))]
pub async fn capabilities(State(face): State<Face>) -> Result<Json<Capabilities>, Problem> {
    face.ask(|engine| Ok(host::capabilities(engine))).await.map(Json)
}

/// Show the host's hardware, as Handover sees it
///
/// It is kept true by what the kernel tells. What changes without a word of the kernel's, such as power, is as it was
/// when its function last changed; with `fresh`, all of it is read now.
#[utoipa::path(get, path = "/inventory", tag = "host",
    params(("fresh" = Option<bool>, Query, description = "read everything again")),
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub async fn inventory(State(face): State<Face>, query: Query) -> Result<Response, Problem> {
    let fresh = query.flag("fresh")?;
    let hardware = face.hardware.clone().filter(|_| !fresh);
    let inventory = face.ask(move |engine| {
        let known = hardware.and_then(|hardware| hardware.inventory());
        known.map_or_else(|| engine.inventory().map(Arc::new), Ok)
    });
    Ok(Json(&*inventory.await?).into_response())
}
