//! `/health`, `/resources`, `/capabilities` and `/inventory`.

use std::sync::Arc;

use api::{Capabilities, ErrorBody, Health, Resources};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use service::host;

use super::query::Query;
use super::{Face, Problem};

/// Show that the daemon is running
#[utoipa::path(get, path = "/health", tag = "host", security(()),
    responses((status = 200, body = Health), (status = "default", body = ErrorBody)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// Show the host's resources, and how much is allocated to instances
#[utoipa::path(get, path = "/resources", tag = "host",
    responses((status = 200, body = Resources), (status = "default", body = ErrorBody)))]
pub async fn resources(State(face): State<Face>) -> Result<Json<Resources>, Problem> {
    face.ask(host::resources).await.map(Json)
}

/// Show the capabilities of this daemon
#[utoipa::path(get, path = "/capabilities", tag = "host",
    responses((status = 200, body = Capabilities), (status = "default", body = ErrorBody)))]
pub async fn capabilities(State(face): State<Face>) -> Result<Json<Capabilities>, Problem> {
    face.ask(|engine| Ok(host::capabilities(engine))).await.map(Json)
}

/// Show the host's hardware
///
/// Kept current by the kernel's uevents. State that changes without a uevent, such as power, is that of the function's
/// last change; `fresh` rescans everything.
#[utoipa::path(get, path = "/inventory", tag = "host",
    params(("fresh" = Option<bool>, Query, description = "rescan everything")),
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
