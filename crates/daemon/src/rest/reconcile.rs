//! `/reconcile` and `/return`: making claims, machines and host agree.

use api::{ErrorBody, Report, ReturnDevices, ReturnedDevice};
use axum::Json;
use axum::extract::State;

use super::body::JsonBody;
use super::{Face, Problem};
use service::reconcile;

/// Show the report of the last check: at the daemon's start, or on a later request
#[utoipa::path(get, path = "/reconcile", tag = "host",
    responses((status = 200, body = Report), (status = "default", body = ErrorBody)))]
pub async fn last(State(face): State<Face>) -> Result<Json<Report>, Problem> {
    face.ask(|engine| Ok(engine.last_report().unwrap_or_default()))
        .await
        .map(|report| Json(reconcile::report(report)))
}

/// Return unclaimed devices to their native drivers, and report the outcome for each
///
/// The request names the devices, or asks for all of them explicitly: a request without a body is refused.
#[utoipa::path(post, path = "/return", tag = "devices", request_body = ReturnDevices,
    responses((status = 200, body = Vec<ReturnedDevice>), (status = "default", body = ErrorBody)))]
pub async fn return_devices(
    State(face): State<Face>,
    body: JsonBody,
) -> Result<Json<Vec<ReturnedDevice>>, Problem> {
    let wanted: ReturnDevices = body.read()?;
    face.ask(move |engine| reconcile::return_devices(engine, &wanted)).await.map(Json)
}

/// Check again, fix what can be fixed, and report the rest
#[utoipa::path(post, path = "/reconcile", tag = "host",
    responses((status = 200, body = Report), (status = "default", body = ErrorBody)))]
pub async fn again(State(face): State<Face>, body: JsonBody) -> Result<Json<Report>, Problem> {
    body.expect_no_fields()?;
    face.ask(engine::Engine::reconcile).await.map(|report| Json(reconcile::report(report)))
}
