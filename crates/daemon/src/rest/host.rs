//! `/health`, `/resources`, `/capabilities` and `/inventory`.

use std::sync::Arc;

use api::{Capabilities, ErrorBody, Health, Resources};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use service::host;

use super::guard::Authorized;
use super::query::Query;
use super::{Face, Problem};

/// Show whether the daemon has started, and what it waits for
///
/// While it is `starting`, the daemon answers GET. Other calls wait up to 30 s for the end of recovery, and are then
/// refused with 503 `starting` and a `Retry-After`. Needs no token; what is recovered is shown only with the token, or on
/// the unix socket.
#[utoipa::path(get, path = "/health", tag = "host", security(()),
    responses((status = 200, body = Health), (status = "default", body = ErrorBody)))]
pub async fn health(
    State(face): State<Face>,
    authorized: Option<Extension<Authorized>>,
) -> Json<Health> {
    if face.gate.is_open() {
        return Json(host::healthy());
    }
    let tasks = authorized.map(|_| face.engine.recovering());
    Json(host::starting(tasks.unwrap_or_default()))
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
