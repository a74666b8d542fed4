//! `/claims`: who holds what.

use api::ErrorBody;
use axum::Json;
use axum::extract::State;
use model::Claim;

use super::{Face, Problem};

/// List the claims
#[utoipa::path(get, path = "/claims", tag = "host",
    responses((status = 200, body = Vec<Object>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>) -> Result<Json<Vec<Claim>>, Problem> {
    face.ask(engine::Engine::claims).await.map(Json)
}
