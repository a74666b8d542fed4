//! `/instances`: machines.

use api::{CreateInstance, ErrorBody, Instance};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::parse_size;
use serde_json::{Map, Value};

use super::body::JsonBody;
use super::question::{Key, Query};
use super::{Face, Problem, render};

/// Fields of hypeman's API whose loss would be noticed late: asking for them is refused.
const UNSUPPORTED: [&str; 8] = [
    "auto_standby",
    "credentials",
    "disk_io_bps",
    "expires_at",
    "health_check",
    "hotplug_size",
    "restart_policy",
    "ttl",
];

/// List the instances
#[utoipa::path(get, path = "/instances", tag = "instances",
    params(("tags" = Option<String>, Query, description = "only those with these labels, each written `tags[key]=value`"),
        ("state" = Option<String>, Query, description = "only those in this state")),
    responses((status = 200, body = Vec<Instance>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>, query: Query) -> Result<Json<Vec<Instance>>, Problem> {
    let state = query.get("state").map(state_of).transpose()?;
    let instances = face.ask(move |engine| engine.instances(&query.tags())).await?;
    let wanted = instances.into_iter().filter(|one| state.is_none_or(|state| one.state == state));
    Ok(Json(wanted.map(render::instance).collect()))
}

/// The state that a query names.
pub fn state_of(word: &str) -> Result<engine::InstanceState, Problem> {
    render::state_of(word).ok_or_else(|| {
        Problem::invalid(
            format!("{word:?} is no state of an instance"),
            format!("the states are {}", render::state_words()),
        )
    })
}

/// Create an instance, hand its devices over, and start it
#[utoipa::path(post, path = "/instances", tag = "instances", request_body = CreateInstance,
    responses((status = 201, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn create(
    State(face): State<Face>,
    body: JsonBody,
) -> Result<(StatusCode, Json<Instance>), Problem> {
    let request = accept(body.read()?, &body.read()?)?;
    let instance = face.ask(move |engine| engine.create_instance(request)).await?;
    Ok((StatusCode::CREATED, Json(render::instance(instance))))
}

/// What the engine is asked for; a refusal where something would be lost without a word.
fn accept(
    wanted: CreateInstance,
    all: &Map<String, Value>,
) -> Result<engine::CreateInstance, Problem> {
    let network = wanted.network.and_then(|network| network.enabled);
    if network == Some(true) {
        return Err(Problem::not_implemented(
            "virtual network cards yet",
            "leave `network` out or set its `enabled` to false, and give the machine a NIC or a VF of one among its `devices`",
        ));
    }
    if wanted.volumes.is_some_and(|volumes| !volumes.is_empty()) {
        return Err(Problem::not_implemented("volumes", "put the data on the image's disk"));
    }
    let words = [("cmd", wanted.cmd), ("entrypoint", wanted.entrypoint)];
    let mut asked = words.iter().filter(|(_, w)| w.as_ref().is_some_and(|w| !w.is_empty()));
    let env = wanted.env.is_some_and(|env| !env.is_empty()).then_some("env");
    if let Some(field) = asked.next().map(|(field, _)| *field).or(env) {
        return Err(Problem::invalid(
            format!("`{field}` is for container images; a disk or kernel image boots as it is"),
            format!(
                "leave `{field}` out, and configure the guest inside its image or by `cmdline`"
            ),
        ));
    }
    if let Some(field) = UNSUPPORTED.iter().find(|field| all.get(**field).is_some_and(is_asked)) {
        return Err(Problem::not_implemented(
            &format!("`{field}` for instances"),
            format!("leave `{field}` out"),
        ));
    }
    let size = |text: Option<String>| {
        text.filter(|text| !text.is_empty()).map(|text| parse_size(&text)).transpose()
    };
    Ok(engine::CreateInstance {
        name: wanted.name,
        image: wanted.image,
        memory: size(wanted.size)?,
        vcpus: wanted.vcpus,
        overlay_size: size(wanted.overlay_size)?,
        devices: wanted.devices.unwrap_or_default(),
        gpu_profile: wanted.gpu.and_then(|gpu| gpu.profile).filter(|profile| !profile.is_empty()),
        hypervisor: wanted.hypervisor,
        cmdline: wanted.cmdline,
        tags: wanted.tags.unwrap_or_default(),
    })
}

/// Whether a field asks for something, and does not just say that nothing is wanted.
fn is_asked(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !matches!(text.as_str(), "" | "0" | "0s"),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => {
            let off = fields.get("enabled") == Some(&Value::Bool(false))
                || fields.get("policy").is_some_and(|policy| policy == "never")
                || fields.get("type").is_some_and(|kind| kind == "none");
            !fields.is_empty() && !off
        }
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Show an instance
#[utoipa::path(get, path = "/instances/{key}", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(key): Key) -> Result<Json<Instance>, Problem> {
    let instance = face.ask(move |engine| engine.instance(&key)).await?;
    Ok(Json(render::instance(instance)))
}

/// Delete an instance: its machine ends, its devices go back to the drivers that they had
#[utoipa::path(delete, path = "/instances/{key}", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn delete(State(face): State<Face>, Key(key): Key) -> Result<StatusCode, Problem> {
    face.ask(move |engine| engine.delete_instance(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop an instance's machine; it keeps its devices
#[utoipa::path(post, path = "/instances/{key}/stop", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn stop(State(face): State<Face>, Key(key): Key) -> Result<Json<Instance>, Problem> {
    let instance = face.ask(move |engine| engine.stop_instance(&key)).await?;
    Ok(Json(render::instance(instance)))
}

/// Start an instance's machine again
#[utoipa::path(post, path = "/instances/{key}/start", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn start(State(face): State<Face>, Key(key): Key) -> Result<Json<Instance>, Problem> {
    let instance = face.ask(move |engine| engine.start_instance(&key)).await?;
    Ok(Json(render::instance(instance)))
}
