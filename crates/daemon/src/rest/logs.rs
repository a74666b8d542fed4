//! `/instances/{key}/logs`: a guest's console as server-sent events, or as the bytes that the guest wrote.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use api::{ErrorBody, schema};
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use engine::InstanceState;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use service::console::{Console, text};
use tracing::warn;

use super::query::{Key, Query};
use super::{Face, Problem};

/// The interval of checking a console for new lines.
const INTERVAL: Duration = Duration::from_millis(100);

/// The number of checks without a line after which to check whether the machine still runs.
const LOOKS: u32 = 10;

/// The default number of lines.
const TAIL: u64 = 100;

/// Read the guest's console: server-sent events, each with a line as a JSON string, or the bytes that the guest wrote
#[utoipa::path(get, path = "/instances/{key}/logs", tag = "instances",
    params(("key" = String, Path, description = "id or name"),
        ("source" = Option<schema::LogSource>, Query, description = "`app`, the guest's console"),
        ("tail" = Option<u64>, Query, description = "number of last lines; 100 by default"),
        ("follow" = Option<bool>, Query, description = "follow until the machine ends"),
        ("format" = Option<schema::LogFormat>, Query, description = "`events`, the default, or `raw`: bytes")),
    responses(
        (status = 200, content((schema::ServerSentEvent = "text/event-stream"), (String = "application/octet-stream"))),
        (status = "default", body = ErrorBody)))]
pub async fn stream(
    State(face): State<Face>,
    Key(key): Key,
    query: Query,
) -> Result<Response, Problem> {
    if let Some(source) = query.get("source")?.filter(|source| *source != "app") {
        return Err(Problem::not_implemented(
            &format!("log source {source:?}"),
            "use source=app, the guest's console",
        ));
    }
    let raw = match query.get("format")? {
        None | Some("events") => false,
        Some("raw") => true,
        Some(other) => {
            return Err(Problem::invalid(format!("unknown format {other:?}"), "use events or raw"));
        }
    };
    let follow = query.flag("follow")?;
    let tail = match query.get("tail")? {
        None => TAIL,
        Some(text) => text.parse().map_err(|_| {
            Problem::invalid(format!("invalid tail {text:?}"), "use a number of lines")
        })?,
    };
    let wanted = key.clone();
    let path = face.ask(move |engine| engine.instances().console(&wanted)).await?;
    let console = tokio::task::spawn_blocking(move || Console::open(path, tail)).await;
    let console = console
        .map_err(|error| Problem::unforeseen(&error))?
        .map_err(|error| Problem::unforeseen(&format!("cannot read the console: {error}")))?;
    let reader =
        Reader { face, key, follow, console, ready: VecDeque::new(), looks: 0, ended: false, raw };
    let lines = stream::unfold(reader, |mut reader| async move {
        let line = reader.next().await?;
        Some((line, reader))
    });
    if raw {
        let bytes = Body::from_stream(lines.map(Ok::<_, Infallible>));
        return Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response());
    }
    // hypeman's clients read each event's data as JSON.
    let event = |line: Vec<u8>| Event::default().data(Value::String(text(&line)).to_string());
    // A disconnected client is only noticed by writing to it.
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(2));
    let events = lines.map(move |line| Ok::<_, Infallible>(event(line)));
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Reads a console to its end, and optionally follows it.
struct Reader {
    face: Face,
    key: String,
    follow: bool,
    console: Console,
    ready: VecDeque<Vec<u8>>,
    looks: u32,
    ended: bool,
    /// Whether to pass on lines before they end.
    raw: bool,
}

impl Reader {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            match self.console.lines() {
                Ok(Some(lines)) => {
                    self.looks = 0;
                    self.ready.extend(lines);
                    if self.raw {
                        // A prompt has no line end.
                        self.ready.extend(self.console.rest());
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "cannot continue to read a console");
                    return None;
                }
            }
            if !self.follow {
                // What the guest writes later must not look like another line.
                self.ended = true;
                return self.console.rest();
            }
            self.looks += 1;
            if self.looks.is_multiple_of(LOOKS) && !self.may_write().await {
                // Lines written just before the end are still unread.
                self.follow = false;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = self.face.stopped() => return None,
            }
        }
    }

    /// Whether the machine runs and may write more.
    async fn may_write(&self) -> bool {
        let key = self.key.clone();
        let instance = self.face.ask(move |engine| engine.instances().find(&key)).await;
        instance.is_ok_and(|instance| {
            !matches!(instance.state, InstanceState::Stopped | InstanceState::Shutdown)
        })
    }
}
