//! `/instances`: machines.

use std::time::Duration;

use api::{
    AttachDevice, CreateInstance, ErrorBody, Instance, InstanceOrPlan, InstanceStats,
    NetworkRequest, StartInstance, UpdateInstance, Wish, schema,
};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine::Engine;
use model::Code;
use serde::Deserialize;
use service::{hot_plug, images, instances, outline, stats, templates};

use super::body::JsonBody;
use super::query::{Key, Keys, Query};
use super::{Face, Problem};

/// The pause between two questions whether an image is pulled.
const PULL_PAUSE: Duration = Duration::from_millis(100);

/// The body of a call without options.
#[derive(Default, Deserialize)]
struct NoOptions {}

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
    params(("dry_run" = Option<bool>, Query, description = "only report what would be chosen (200)"),
        ("once" = Option<bool>, Query, description = "answer with the instance of this name (200) if it is what the request asks for; if it differs, the error says in what")),
    responses((status = 201, body = Instance), (status = 200, body = InstanceOrPlan), (status = "default", body = ErrorBody)))]
pub async fn create(
    State(face): State<Face>,
    query: Query,
    body: JsonBody,
) -> Result<(StatusCode, Json<InstanceOrPlan>), Problem> {
    let once = query.flag("once")?;
    if query.flag("dry_run")? {
        let (wanted, _) = body.read_noting()?;
        let all = body.read()?;
        let planned = face.ask(move |engine| outline::plan(engine, wanted, &all)).await?;
        return Ok((StatusCode::OK, Json(InstanceOrPlan::Plan(planned))));
    }
    let (mut wanted, unknown) = body.read_noting()?;
    let all = body.read()?;
    pull(&face, &wanted).await?;
    wanted.pull = None;
    let create = move |engine: &Engine| {
        if once {
            return templates::create_once(engine, wanted, &all, &unknown);
        }
        instances::create(engine, wanted, &all, &unknown).map(|instance| (instance, true))
    };
    let (instance, is_new) = face.ask(create).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(InstanceOrPlan::Instance(Box::new(instance)))))
}

/// Pulls the image, if the request asks for it. If the client goes away, the pull goes on.
async fn pull(face: &Face, wanted: &CreateInstance) -> Result<(), Problem> {
    if wanted.pull.is_none() {
        return Ok(());
    }
    let wanted = wanted.clone();
    let mut pull = face.ask(move |engine| images::pull_before(engine, &wanted)).await?;
    while let Some(awaited) = pull {
        let asked = move |engine: &Engine| Ok((images::is_pulled(engine, &awaited)?, awaited));
        let (is_done, still) = face.ask(asked).await?;
        pull = (!is_done).then_some(still);
        tokio::select! {
            () = tokio::time::sleep(PULL_PAUSE) => {}
            () = face.stopped() => return Err(Problem::new(
                Code::DaemonUnreachable,
                "the daemon is stopping; the pull is not complete",
                "retry when it is running again",
            )),
        }
    }
    Ok(())
}

/// Show the request that makes an instance like this one
#[utoipa::path(get, path = "/instances/{key}/template", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = CreateInstance), (status = "default", body = ErrorBody)))]
pub async fn template(
    State(face): State<Face>,
    Key(key): Key,
) -> Result<Json<CreateInstance>, Problem> {
    face.ask(move |engine| templates::of(engine, &key)).await.map(Json)
}

/// Show an instance
#[utoipa::path(get, path = "/instances/{key}", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(key): Key) -> Result<Json<Instance>, Problem> {
    face.ask(move |engine| instances::show(engine, &key)).await.map(Json)
}

/// Change an instance: its machine while it is stopped, when its machine is started at any time
#[utoipa::path(patch, path = "/instances/{key}", tag = "instances", request_body = UpdateInstance,
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn update(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    let (wanted, unknown): (UpdateInstance, _) = body.read_noting()?;
    let all = body.read()?;
    let update = move |engine: &Engine| instances::update(engine, &key, wanted, &all, &unknown);
    face.ask(update).await.map(Json)
}

/// Delete an instance: end its machine, and return its devices to their previous drivers
#[utoipa::path(delete, path = "/instances/{key}", tag = "instances",
    params(("key" = String, Path, description = "id or name"),
        ("graceful_shutdown" = Option<bool>, Query, description = "first ask the guest to shut down, as `stop` does")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn delete(
    State(face): State<Face>,
    Key(key): Key,
    query: Query,
) -> Result<StatusCode, Problem> {
    let gracefully = query.flag("graceful_shutdown")?;
    face.ask(move |engine| instances::delete(engine, &key, gracefully)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop the machine of an instance; it keeps its devices
#[utoipa::path(post, path = "/instances/{key}/stop", tag = "instances",
    params(("key" = String, Path, description = "id or name"),
        ("timeout" = Option<schema::GoDuration>, Query, description = "how long the guest may take to shut down, such as `2m`; then, or with `0s` at once, its machine is ended; 1h at most")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn stop(
    State(face): State<Face>,
    Key(key): Key,
    query: Query,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    let timeout = query.get("timeout")?.map(model::parse_duration).transpose()?;
    let (_, unknown): (NoOptions, _) = body.read_noting_or_default()?;
    face.ask(move |engine| instances::stop(engine, &key, timeout, &unknown)).await.map(Json)
}

/// Start the machine of a stopped instance
#[utoipa::path(post, path = "/instances/{key}/start", tag = "instances", request_body = Option<StartInstance>,
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn start(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    let (how, unknown): (StartInstance, _) = body.read_noting_or_default()?;
    face.ask(move |engine| instances::start(engine, &key, how, &unknown)).await.map(Json)
}

/// Give an instance a device: at once if it runs, else at its next start
#[utoipa::path(post, path = "/instances/{key}/devices", tag = "instances", request_body = AttachDevice,
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn attach(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    let wanted: AttachDevice = body.read()?;
    face.ask(move |engine| hot_plug::attach(engine, &key, wanted)).await.map(Json)
}

/// Give an instance the device of this name or address: at once if it runs, else at its next start
#[utoipa::path(post, path = "/instances/{key}/devices/{device}", tag = "instances",
    params(("key" = String, Path, description = "id or name of the instance"),
        ("device" = schema::PlacedWantText, Path, description = "id or name of a registered device, or whatever a claim takes, such as an address")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn attach_named(
    State(face): State<Face>,
    Keys(key, device): Keys,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    body.expect_no_fields()?;
    let wanted = AttachDevice { device: Wish::Words(device) };
    face.ask(move |engine| hot_plug::attach(engine, &key, wanted)).await.map(Json)
}

/// Take a device from an instance, and return it to the host; a running guest is asked to let go of it
#[utoipa::path(delete, path = "/instances/{key}/devices/{device}", tag = "instances",
    params(("key" = String, Path, description = "id or name of the instance"),
        ("device" = String, Path, description = "address, or id or name of the registered device, or uuid of the mediated device"),
        ("timeout" = Option<schema::GoDuration>, Query, description = "how long the guest may take, such as `30s`, the default, or `2m`; 10m at most")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn detach(
    State(face): State<Face>,
    Keys(key, device): Keys,
    query: Query,
) -> Result<Json<Instance>, Problem> {
    let timeout = query.get("timeout")?.map(model::parse_duration).transpose()?;
    face.ask(move |engine| hot_plug::detach(engine, &key, &device, timeout)).await.map(Json)
}

/// Give an instance a network card: at once if it runs, else at its next start
#[utoipa::path(post, path = "/instances/{key}/networks", tag = "instances", request_body = api::NewCard,
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn attach_card(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    let wanted: NetworkRequest = body.read()?;
    face.ask(move |engine| hot_plug::attach_card(engine, &key, wanted)).await.map(Json)
}

/// Take a network card from an instance; a running guest is asked to let go of it, if it got it while it ran
#[utoipa::path(delete, path = "/instances/{key}/networks/{mac}", tag = "instances",
    params(("key" = String, Path, description = "id or name of the instance"),
        ("mac" = String, Path, description = "hardware address of the card"),
        ("timeout" = Option<schema::GoDuration>, Query, description = "how long the guest may take, such as `30s`, the default, or `2m`; 10m at most")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn detach_card(
    State(face): State<Face>,
    Keys(key, mac): Keys,
    query: Query,
) -> Result<Json<Instance>, Problem> {
    let timeout = query.get("timeout")?.map(model::parse_duration).transpose()?;
    face.ask(move |engine| hot_plug::detach_card(engine, &key, &mac, timeout)).await.map(Json)
}

/// Pause the guest of an instance: its processors stop, and it keeps its memory and devices. Idempotent
#[utoipa::path(post, path = "/instances/{key}/pause", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn pause(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    body.expect_no_fields()?;
    face.ask(move |engine| instances::pause(engine, &key)).await.map(Json)
}

/// Let the guest of a paused instance continue, or one that the hypervisor has stopped. Idempotent
#[utoipa::path(post, path = "/instances/{key}/resume", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn resume(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    body.expect_no_fields()?;
    face.ask(move |engine| instances::resume(engine, &key)).await.map(Json)
}

/// Show what the machine of an instance uses: processor time, memory, disks
#[utoipa::path(get, path = "/instances/{key}/stats", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = InstanceStats), (status = "default", body = ErrorBody)))]
pub async fn usage(
    State(face): State<Face>,
    Key(key): Key,
) -> Result<Json<InstanceStats>, Problem> {
    face.ask(move |engine| stats::show(engine, &key)).await.map(Json)
}
