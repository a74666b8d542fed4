//! `/claims`: devices and partitions by owner.

use api::{CreateClaim, ErrorBody, PlannedClaim, PrepareClaim, Released, RenewClaim, schema};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::body::JsonBody;
use super::query::{Key, Query};
use super::{Face, Problem};
use service::claims;

/// List the claims
#[utoipa::path(get, path = "/claims", tag = "claims",
    responses((status = 200, body = Vec<api::Claim>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>) -> Result<Json<Vec<api::Claim>>, Problem> {
    face.ask(claims::list).await.map(Json)
}

/// Claim devices or partitions: everything requested, or nothing. Prepares them for a machine unless only reserving is
/// requested. Idempotent per owner and request (200)
#[utoipa::path(post, path = "/claims", tag = "claims", request_body = CreateClaim,
    params(("dry_run" = Option<bool>, Query, description = "only report what would be claimed and done (200)")),
    responses((status = 201, body = api::Claim), (status = 200, body = PlannedClaim), (status = "default", body = ErrorBody)))]
pub async fn create(
    State(face): State<Face>,
    query: Query,
    body: JsonBody,
) -> Result<Response, Problem> {
    let wanted: CreateClaim = body.read()?;
    if query.flag("dry_run")? {
        let planned = face.ask(move |engine| claims::dry_run(engine, wanted)).await?;
        return Ok(Json(planned).into_response());
    }
    let (claim, new) = face.ask(move |engine| claims::claim(engine, wanted)).await?;
    face.leases_changed();
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(claim)).into_response())
}

/// Show a claim
#[utoipa::path(get, path = "/claims/{key}", tag = "claims",
    params(("key" = String, Path, description = "id, or owner `KIND/ID` of a single claim (encode the slash)")),
    responses((status = 200, body = api::Claim), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(key): Key) -> Result<Json<api::Claim>, Problem> {
    face.ask(move |engine| claims::show(engine, &key)).await.map(Json)
}

/// Prepare a reserved claim for a machine; a prepared claim is left unchanged
#[utoipa::path(post, path = "/claims/{key}/prepare", tag = "claims", request_body = Option<PrepareClaim>,
    params(("key" = String, Path, description = "id or owner")),
    responses((status = 200, body = api::Claim), (status = "default", body = ErrorBody)))]
pub async fn prepare(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<api::Claim>, Problem> {
    let wanted: PrepareClaim = body.read_or_default()?;
    face.ask(move |engine| claims::prepare(engine, &key, wanted)).await.map(Json)
}

/// Return a claim's devices to the host, and keep the reservation
#[utoipa::path(post, path = "/claims/{key}/unprepare", tag = "claims",
    params(("key" = String, Path, description = "id or owner")),
    responses((status = 200, body = api::Claim), (status = "default", body = ErrorBody)))]
pub async fn unprepare(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<api::Claim>, Problem> {
    body.expect_no_fields()?;
    face.ask(move |engine| claims::unprepare(engine, &key)).await.map(Json)
}

/// Renew the lease of a claim from now on
#[utoipa::path(post, path = "/claims/{key}/renew", tag = "claims", request_body = RenewClaim,
    params(("key" = String, Path, description = "id or owner")),
    responses((status = 200, body = api::Claim), (status = "default", body = ErrorBody)))]
pub async fn renew(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<api::Claim>, Problem> {
    let wanted: RenewClaim = body.read()?;
    let seconds = wanted.lease_seconds;
    let claim = face.ask(move |engine| claims::renew(engine, &key, seconds)).await?;
    face.leases_changed();
    Ok(Json(claim))
}

/// Release a claim, and return its devices to the host
#[utoipa::path(delete, path = "/claims/{key}", tag = "claims",
    params(("key" = String, Path, description = "id or owner"),
        ("owner" = Option<schema::AnyOwner>, Query, description = "release only if the claim has this owner")),
    responses((status = 204, description = "released; the previous state is restored"),
        (status = 200, body = Released, description = "released, with notes for the owner"),
        (status = "default", body = ErrorBody)))]
pub async fn release(
    State(face): State<Face>,
    Key(key): Key,
    query: Query,
) -> Result<Response, Problem> {
    let owner = query.get("owner")?.map(str::to_owned);
    let released = face.ask(move |engine| claims::release(engine, &key, owner.as_deref())).await?;
    if released.notes.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(released).into_response())
}
