//! `/instances/{key}/wait`: waits until an instance is in a state.

use std::time::{Duration, Instant};

use api::{ErrorBody, WaitOutcome, schema};
use axum::Json;
use axum::extract::State;
use engine::{Instance, InstanceState};
use model::Code;
use service::{instances, render};

use super::query::{Key, Query};
use super::{Face, Problem};

const DEFAULT: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(300);

/// How long a single call waits in the engine. Each call occupies a thread, even after its client has disconnected.
const SLICE: Duration = Duration::from_secs(1);

/// Wait until an instance is in a state
#[utoipa::path(get, path = "/instances/{key}/wait", tag = "instances",
    params(("key" = String, Path, description = "id or name"),
        ("state" = schema::InstanceState, Query, description = "state to wait for"),
        ("timeout" = Option<schema::GoDuration>, Query, description = "such as `30s` or `2m`; 60s by default, 5m at most")),
    responses((status = 200, body = WaitOutcome), (status = "default", body = ErrorBody)))]
pub async fn wait(
    State(face): State<Face>,
    Key(key): Key,
    query: Query,
) -> Result<Json<WaitOutcome>, Problem> {
    let word = query.get("state")?.ok_or_else(|| {
        Problem::invalid("the parameter `state` is missing", "add ?state=Running")
    })?;
    let state = instances::state_of(word)?;
    let timeout = match query.get("timeout")? {
        Some(text) => model::parse_duration(text)?.min(LONGEST),
        None => DEFAULT,
    };
    let instance = tokio::select! {
        instance = until(&face, key, state, timeout) => instance?,
        () = face.stopped() => {
            return Err(Problem::new(Code::DaemonUnreachable, "the daemon is stopping", "retry when it is running again"));
        }
    };
    Ok(Json(WaitOutcome {
        state: render::state_word(instance.state).to_owned(),
        state_error: instance.state_error,
        timed_out: instance.state != state,
    }))
}

/// The instance when it is in that state, or after the timeout. Stops when dropped, as when the client disconnects.
async fn until(
    face: &Face,
    key: String,
    state: InstanceState,
    timeout: Duration,
) -> Result<Instance, Problem> {
    let end = Instant::now() + timeout;
    loop {
        let key = key.clone();
        let slice = end.saturating_duration_since(Instant::now()).min(SLICE);
        let instance = face.ask(move |engine| engine.instances().wait(&key, state, slice)).await?;
        if instance.state == state || Instant::now() >= end {
            return Ok(instance);
        }
    }
}
