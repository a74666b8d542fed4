//! `/events`: the journal's boundaries as they are reached.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use tokio::sync::broadcast::error::RecvError;

use super::Face;

/// Watch what is done to the host: server-sent events, each with a step of the journal as JSON and `words` for a person
#[utoipa::path(get, path = "/events", tag = "host",
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub async fn stream(
    State(face): State<Face>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = face.events.subscribe();
    let events = stream::unfold((face, receiver), |(face, mut receiver)| async move {
        loop {
            let received = tokio::select! {
                received = receiver.recv() => received,
                () = face.stopped() => return None,
            };
            let event = match received {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return None,
            };
            let Ok(mut json) = serde_json::to_value(&event) else { continue };
            if let Some(fields) = json.as_object_mut() {
                fields.insert("words".to_owned(), event.describe().into());
            }
            return Some((Ok(Event::default().data(json.to_string())), (face, receiver)));
        }
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}
