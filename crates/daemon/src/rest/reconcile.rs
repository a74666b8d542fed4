//! `/reconcile`: do claims, machines and host agree?

use api::{ErrorBody, RecoverDevices, RecoveredDevice, Report};
use axum::Json;
use axum::extract::State;

use super::body::JsonBody;
use super::{Face, Problem};
use service::recovery;

/// Show what the last look found: at the daemon's start, or on request since
#[utoipa::path(get, path = "/reconcile", tag = "host",
    responses((status = 200, body = Report), (status = "default", body = ErrorBody)))]
pub async fn last(State(face): State<Face>) -> Result<Json<Report>, Problem> {
    face.ask(|engine| Ok(engine.last_report().unwrap_or_default()))
        .await
        .map(|report| Json(recovery::report(report)))
}

/// Return unclaimed devices to their native drivers, and report the state of each
#[utoipa::path(post, path = "/recover", tag = "devices", request_body = RecoverDevices,
    responses((status = 200, body = Vec<RecoveredDevice>), (status = "default", body = ErrorBody)))]
pub async fn devices(
    State(face): State<Face>,
    body: JsonBody,
) -> Result<Json<Vec<RecoveredDevice>>, Problem> {
    let wanted: RecoverDevices = body.read_or_default()?;
    face.ask(move |engine| recovery::recover(engine, &wanted)).await.map(Json)
}

/// Look again, mend what can be mended, and tell the rest
#[utoipa::path(post, path = "/reconcile", tag = "host",
    responses((status = 200, body = Report), (status = "default", body = ErrorBody)))]
pub async fn again(State(face): State<Face>) -> Result<Json<Report>, Problem> {
    face.ask(engine::Engine::reconcile).await.map(|report| Json(recovery::report(report)))
}
