//! `/events`: boundaries of the journal, and changes of the host's devices.

use std::convert::Infallible;
use std::time::Duration;

use api::{ErrorBody, schema};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Face;

/// A change of the host's hardware, as an event.
#[derive(Serialize)]
struct HardwareEvent {
    event: &'static str,
    #[serde(flatten)]
    change: model::Change,
}

/// Watch the steps on the host, and changes of its devices: server-sent events
///
/// Each event is JSON with its kind in `event` and a description in `words`. `opened`, `intended`, `performed`,
/// `recorded` and `closed` are steps of the journal; `hardware` is a device that appeared, disappeared or changed, in
/// `address`,
/// `name` and `change`.
#[utoipa::path(get, path = "/events", tag = "host",
    responses((status = 200, content_type = "text/event-stream", body = schema::ServerSentEvent), (status = "default", body = ErrorBody)))]
pub async fn stream(
    State(face): State<Face>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let journal = face.events.subscribe();
    let hardware = face.hardware.as_ref().map(|hardware| hardware.changes());
    let state = (face, journal, hardware);
    let events = stream::unfold(state, |(face, mut journal, mut hardware)| async move {
        loop {
            let event = tokio::select! {
                received = journal.recv() => match received {
                    Ok(event) => sse(&event, event.describe()),
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return None,
                },
                change = next(&mut hardware) => {
                    let words = format!("{} {}: {}", change.address, change.name, change.kind);
                    sse(&HardwareEvent { event: "hardware", change }, words)
                }
                () = face.stopped() => return None,
            };
            let Some(event) = event else { continue };
            return Some((Ok(event), (face, journal, hardware)));
        }
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// The next change; waits for ever if the hardware is not monitored.
async fn next(changes: &mut Option<Receiver<model::Change>>) -> model::Change {
    while let Some(receiver) = changes {
        match receiver.recv().await {
            Ok(change) => return change,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *changes = None,
        }
    }
    std::future::pending().await
}

/// An event with its description.
fn sse(event: &impl Serialize, words: String) -> Option<Event> {
    let mut json = serde_json::to_value(event).ok()?;
    json.as_object_mut()?.insert("words".to_owned(), words.into());
    Some(Event::default().data(json.to_string()))
}
