//! `/sriov`: VF counts of devices, now and at each boot.

use api::{ErrorBody, SetVfs, VfConfiguration};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::JsonBody;
use super::query::Key;
use super::{Face, Problem};
use service::sriov;

/// List the configured VF counts
#[utoipa::path(get, path = "/sriov", tag = "devices",
    responses((status = 200, body = Vec<VfConfiguration>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>) -> Result<Json<Vec<VfConfiguration>>, Problem> {
    face.ask(sriov::list).await.map(Json)
}

/// Set the number of VFs of a device, now and at each boot; refused while a VF is in use
#[utoipa::path(post, path = "/sriov/{key}", tag = "devices", request_body = SetVfs,
    params(("key" = String, Path, description = "address, id or name")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn set(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<StatusCode, Problem> {
    let SetVfs { count, autoprobe } = body.read()?;
    face.ask(move |engine| engine.vf_counts().set(&key, count, autoprobe)).await?;
    Ok(StatusCode::NO_CONTENT)
}
