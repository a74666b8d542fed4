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

/// The most digits of a number in a duration, before and after the point.
const MOST_DIGITS: usize = 9;

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
        Some(text) => duration(text)?.min(LONGEST),
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

/// Parses a duration as Go formats it: `90s`, `1m30s`, `500ms`, `1.5h`.
fn duration(text: &str) -> Result<Duration, Problem> {
    let fail = || {
        Problem::invalid(
            format!("invalid duration {text:?}"),
            "use a duration such as 30s, 2m or 1m30s",
        )
    };
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let (number, after) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // More digits are no duration that anyone means.
        if whole.len() > MOST_DIGITS || fraction.len() > MOST_DIGITS {
            return Err(fail());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let number: f64 = number.parse().map_err(|_| fail())?;
        let seconds = match unit {
            "ns" => number / 1e9,
            "us" | "µs" => number / 1e6,
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return Err(fail()),
        };
        let part = Duration::try_from_secs_f64(seconds).map_err(|_| fail())?;
        total = total.saturating_add(part);
        rest = next;
    }
    if text.is_empty() { Err(fail()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, millis) in [
            ("60s", 60_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            (".5s.5s", 1_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in [
            "60",
            "s",
            "-1s",
            "1x",
            "1.2.3s",
            "99999999999999999999999h",
            "1234567890s",
            ".",
            "soon",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
