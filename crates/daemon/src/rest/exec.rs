//! `/instances/{key}/exec` and `/password`: what the agent in a guest does.

use api::{ErrorBody, Exec, ExecResult, SetPassword};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::Code;
use service::exec::{self, Running};

use super::body::JsonBody;
use super::query::Key;
use super::{Face, Problem};

/// Run a command in the guest, and wait for its end: the guest runs qemu-guest-agent
#[utoipa::path(post, path = "/instances/{key}/exec", tag = "instances", request_body = Exec,
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = ExecResult), (status = "default", body = ErrorBody)))]
pub async fn run(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<Json<ExecResult>, Problem> {
    let wanted: Exec = body.read()?;
    let running = face.ask(move |engine| exec::begin(engine, &key, wanted)).await?;
    tokio::select! {
        result = end(&face, running) => result.map(Json),
        () = face.stopped() => Err(Problem::new(
            Code::DaemonUnreachable,
            "the daemon is stopping; the command goes on in the guest",
            "retry when it is running again",
        )),
    }
}

/// Waits for the end of a command. Stops when dropped, as when the client disconnects.
async fn end(face: &Face, mut running: Running) -> Result<ExecResult, Problem> {
    loop {
        let asked = move |engine: &engine::Engine| Ok((running.poll(engine)?, running));
        let (result, still) = face.ask(asked).await?;
        if let Some(result) = result {
            return Ok(result);
        }
        running = still;
        tokio::time::sleep(running.pause()).await;
    }
}

/// Set the password of a user of the guest, by its hash: the guest runs qemu-guest-agent
#[utoipa::path(post, path = "/instances/{key}/password", tag = "instances", request_body = SetPassword,
    params(("key" = String, Path, description = "id or name")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub async fn set_password(
    State(face): State<Face>,
    Key(key): Key,
    body: JsonBody,
) -> Result<StatusCode, Problem> {
    let wanted: SetPassword = body.read()?;
    face.ask(move |engine| exec::set_password(engine, &key, &wanted)).await?;
    Ok(StatusCode::NO_CONTENT)
}
