//! `/instances`: machines.

use api::{CreateInstance, ErrorBody, Instance, schema};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use service::{instances, render};

use super::body::JsonBody;
use super::query::{Key, Query};
use super::{Face, Problem};

/// List the instances
#[utoipa::path(get, path = "/instances", tag = "instances",
    params(("tags" = Option<schema::QueryTags>, Query, style = DeepObject, explode, description = "only those with these tags, each as `tags[key]=value`"),
        ("state" = Option<schema::InstanceState>, Query, description = "only those in this state")),
    responses((status = 200, body = Vec<Instance>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>, query: Query) -> Result<Json<Vec<Instance>>, Problem> {
    let state = query.get("state")?.map(instances::state_of).transpose()?;
    let tags = query.tags()?;
    face.ask(move |engine| instances::list(engine, &tags, state)).await.map(Json)
}

/// Create an instance, hand its devices over, and start it
#[utoipa::path(post, path = "/instances", tag = "instances", request_body = CreateInstance,
    responses((status = 201, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn create(
    State(face): State<Face>,
    body: JsonBody,
) -> Result<(StatusCode, Json<Instance>), Problem> {
    let request = instances::accept(body.read()?, &body.read()?)?;
    let instance = face.ask(move |engine| instances::create(engine, request)).await?;
    Ok((StatusCode::CREATED, Json(instance)))
}

/// Show an instance
#[utoipa::path(get, path = "/instances/{key}", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(key): Key) -> Result<Json<Instance>, Problem> {
    let instance = face.ask(move |engine| engine.instances().find(&key)).await?;
    Ok(Json(render::instance(instance)))
}

/// Delete an instance: end its machine, and return its devices to their previous drivers
#[utoipa::path(delete, path = "/instances/{key}", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn delete(State(face): State<Face>, Key(key): Key) -> Result<StatusCode, Problem> {
    face.ask(move |engine| engine.instances().delete(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop the machine of an instance; it keeps its devices
#[utoipa::path(post, path = "/instances/{key}/stop", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn stop(State(face): State<Face>, Key(key): Key) -> Result<Json<Instance>, Problem> {
    let instance = face.ask(move |engine| engine.instances().stop(&key)).await?;
    Ok(Json(render::instance(instance)))
}

/// Start the machine of a stopped instance
#[utoipa::path(post, path = "/instances/{key}/start", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn start(State(face): State<Face>, Key(key): Key) -> Result<Json<Instance>, Problem> {
    let instance = face.ask(move |engine| engine.instances().start(&key)).await?;
    Ok(Json(render::instance(instance)))
}
