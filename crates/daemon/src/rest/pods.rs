//! `/pods`: KubeVirt virtual machines as pods for podman.

use api::{CreatePods, ErrorBody, Pods};
use axum::Json;
use axum::extract::State;

use super::body::JsonBody;
use super::{Face, Problem};
use service::pods;

/// Convert KubeVirt virtual machines to pods, with this host's devices; claims nothing and starts nothing
#[utoipa::path(post, path = "/pods", tag = "claims", request_body = CreatePods,
    responses((status = 200, body = Pods), (status = "default", body = ErrorBody)))]
pub async fn create(State(face): State<Face>, body: JsonBody) -> Result<Json<Pods>, Problem> {
    let wanted: CreatePods = body.read()?;
    let host = face.scanner.host();
    face.ask(move |engine| pods::pods(engine, &*host, &wanted)).await.map(Json)
}
