//! `/volumes`: disks that outlast the instances that have them; and the disks of an instance.

use api::{
    AttachVolume, BlockDisk, Cdrom, CreateVolume, ErrorBody, Instance, ResizeVolume, Volume, schema,
};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use engine::Cancel;
use service::{hot_plug, instances, volumes};

use super::body::JsonBody;
use super::query::{Key, Keys, Query};
use super::{Face, Problem, upload};

/// List the volumes
#[utoipa::path(get, path = "/volumes", tag = "volumes",
    params(("tags" = Option<schema::QueryTags>, Query, style = DeepObject, explode, description = "only those with these tags, each as `tags[key]=value`")),
    responses((status = 200, body = Vec<Volume>), (status = "default", body = ErrorBody)))]
pub async fn list(State(face): State<Face>, query: Query) -> Result<Json<Vec<Volume>>, Problem> {
    let tags = query.tags()?;
    face.ask(move |engine| volumes::list(engine, &tags)).await.map(Json)
}

/// Create a volume: empty, or with the content of an image's disk
///
/// The volume is complete when this is answered. Making it from an image is cancelled when the volume is deleted meanwhile, or the client
/// disconnects.
#[utoipa::path(post, path = "/volumes", tag = "volumes", request_body = CreateVolume,
    responses((status = 201, body = Volume), (status = "default", body = ErrorBody)))]
pub async fn create(
    State(face): State<Face>,
    body: JsonBody,
) -> Result<(StatusCode, Json<Volume>), Problem> {
    let (wanted, unknown): (CreateVolume, _) = body.read_noting()?;
    let gone = CancelOnDrop(Cancel::default());
    let cancel = gone.0.clone();
    let volume = face.ask(move |engine| volumes::create(engine, wanted, &unknown, &cancel)).await?;
    Ok((StatusCode::CREATED, Json(volume)))
}

/// Create a volume with an ext4 file system that has the files of an archive (`.tar.gz`)
///
/// It may have files, directories and links; owners, modes and times are kept. The volume is complete when this is answered. It is
/// cancelled when the volume is deleted meanwhile, or the client disconnects.
#[utoipa::path(post, path = "/volumes/from-archive", tag = "volumes",
    params(("name" = schema::VolumeName, Query, description = "name of the volume"),
        ("size_gb" = u64, Query, minimum = 1, maximum = 16384, description = "size in gigabytes (1024³ bytes), which the files must fit into"),
        ("id" = Option<schema::Uuid>, Query, description = "id; a random one by default"),
        ("tags" = Option<schema::QueryTags>, Query, style = DeepObject, explode, description = "tags, each as `tags[key]=value`")),
    request_body(content = schema::GzipArchive, content_type = "application/gzip"),
    responses((status = 201, body = Volume), (status = "default", body = ErrorBody)))]
pub async fn create_from_archive(
    State(face): State<Face>,
    query: Query,
    request: Request,
) -> Result<(StatusCode, Json<Volume>), Problem> {
    let missing = |name: &str| {
        Problem::invalid(format!("the parameter `{name}` is missing"), "give `name` and `size_gb`")
    };
    let name = query.get("name")?.ok_or_else(|| missing("name"))?.to_owned();
    let size_gb = query.get("size_gb")?.ok_or_else(|| missing("size_gb"))?;
    let size_gb = size_gb.parse().map_err(|_| {
        Problem::invalid(format!("invalid size_gb {size_gb:?}"), "use a whole number, such as 10")
    })?;
    let (id, tags) = (query.get("id")?.map(str::to_owned), query.tags()?);
    let wanted = CreateVolume { name, size_gb, id, tags: Some(tags), ..CreateVolume::default() };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let archive = upload::archive(&face, request.into_body(), length).await?;
    // A client that has gone does not learn of the volume.
    let gone = CancelOnDrop(Cancel::default());
    let cancel = gone.0.clone();
    let volume = face
        .ask(move |engine| volumes::create_from_archive(engine, wanted, archive.open()?, &cancel))
        .await?;
    Ok((StatusCode::CREATED, Json(volume)))
}

/// Cancels what a request asked for when the request ends.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Make a volume larger; the instances that have it must be stopped
#[utoipa::path(patch, path = "/volumes/{key}", tag = "volumes", request_body = ResizeVolume,
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Volume), (status = "default", body = ErrorBody)))]
pub async fn resize(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Volume>, Problem> {
    let wanted: ResizeVolume = body.read()?;
    face.ask(move |engine| volumes::resize(engine, &key, &wanted)).await.map(Json)
}

/// Show a volume
#[utoipa::path(get, path = "/volumes/{key}", tag = "volumes",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = Volume), (status = "default", body = ErrorBody)))]
pub async fn show(State(face): State<Face>, Key(key): Key) -> Result<Json<Volume>, Problem> {
    face.ask(move |engine| volumes::show(engine, &key)).await.map(Json)
}

/// Delete a volume that no instance has, and its data; one that is being made is cancelled
#[utoipa::path(delete, path = "/volumes/{key}", tag = "volumes",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn delete(State(face): State<Face>, Key(key): Key) -> Result<StatusCode, Problem> {
    face.ask(move |engine| engine.volumes().delete(&key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Attach a volume to an instance: at once if it runs, else at its next start
#[utoipa::path(post, path = "/instances/{key}/volumes/{volume}", tag = "volumes", request_body = Option<AttachVolume>,
    params(("key" = String, Path, description = "id or name of the instance"),
        ("volume" = String, Path, description = "id or name of the volume")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn attach(
    State(face): State<Face>,
    Keys(key, volume): Keys,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    let (how, unknown): (AttachVolume, _) = body.read_noting_or_default()?;
    let attach =
        move |engine: &engine::Engine| instances::attach(engine, &key, volume, how, &unknown);
    face.ask(attach).await.map(Json)
}

/// Detach a volume from an instance; it keeps its data. A running guest is asked to let go of it, if it got it while it ran
#[utoipa::path(delete, path = "/instances/{key}/volumes/{volume}", tag = "volumes",
    params(("key" = String, Path, description = "id or name of the instance"),
        ("volume" = String, Path, description = "id or name of the volume, or the serial number of a disk"),
        ("timeout" = Option<schema::GoDuration>, Query, description = "how long a running guest may take, such as `30s`, the default, or `2m`; 10m at most")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn detach(
    State(face): State<Face>,
    Keys(key, volume): Keys,
    query: Query,
) -> Result<Json<Instance>, Problem> {
    let timeout = query.get("timeout")?.map(model::parse_duration).transpose()?;
    face.ask(move |engine| hot_plug::detach_disk(engine, &key, &volume, timeout)).await.map(Json)
}

/// Give a stopped instance a CD-ROM
#[utoipa::path(post, path = "/instances/{key}/cdroms", tag = "volumes", request_body = Cdrom,
    params(("key" = String, Path, description = "id or name of the instance")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn insert(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    let (cdrom, unknown): (Cdrom, _) = body.read_noting()?;
    face.ask(move |engine| instances::insert(engine, &key, cdrom, &unknown)).await.map(Json)
}

/// Take a CD-ROM from a stopped instance
#[utoipa::path(delete, path = "/instances/{key}/cdroms/{cdrom}", tag = "volumes",
    params(("key" = String, Path, description = "id or name of the instance"),
        ("cdrom" = String, Path, description = "serial number of the CD-ROM, or name of its image")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn eject(
    State(face): State<Face>,
    Keys(key, cdrom): Keys,
) -> Result<Json<Instance>, Problem> {
    face.ask(move |engine| instances::eject(engine, &key, &cdrom)).await.map(Json)
}

/// Give an instance a block device of the host: at once if it runs, else at its next start
#[utoipa::path(post, path = "/instances/{key}/blocks", tag = "volumes", request_body = BlockDisk,
    params(("key" = String, Path, description = "id or name of the instance")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn attach_block(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<Instance>, Problem> {
    let (block, unknown): (BlockDisk, _) = body.read_noting()?;
    let attach =
        move |engine: &engine::Engine| instances::attach_block(engine, &key, block, &unknown);
    face.ask(attach).await.map(Json)
}

/// Take a block device from an instance; its data stays. A running guest is asked to let go of it, if it got it while it ran
#[utoipa::path(delete, path = "/instances/{key}/blocks/{block}", tag = "volumes",
    params(("key" = String, Path, description = "id or name of the instance"),
        ("block" = String, Path, description = "serial number, name or path of the block device"),
        ("timeout" = Option<schema::GoDuration>, Query, description = "how long a running guest may take, such as `30s`, the default, or `2m`; 10m at most")),
    responses((status = 200, body = Instance), (status = "default", body = ErrorBody)))]
pub async fn detach_block(
    State(face): State<Face>,
    Keys(key, block): Keys,
    query: Query,
) -> Result<Json<Instance>, Problem> {
    let timeout = query.get("timeout")?.map(model::parse_duration).transpose()?;
    face.ask(move |engine| hot_plug::detach_block(engine, &key, &block, timeout)).await.map(Json)
}
