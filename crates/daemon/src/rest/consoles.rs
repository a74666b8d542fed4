//! `/instances/{key}/console`: a guest's serial console as a WebSocket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::ErrorBody;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use model::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};
use uuid::Uuid;

use super::query::{Key, Query};
use super::{Face, Problem};

/// The size of a message with output, in bytes.
const CHUNK: usize = 16 << 10;

/// The largest message with input, in bytes.
const MOST_INPUT: usize = 1 << 20;

/// How long a client may take to read output: meanwhile the guest waits at its console.
const SLOW: Duration = Duration::from_secs(10);

/// How long a client may take to answer that its connection is closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often a client is asked whether it is there.
const ASK: Duration = Duration::from_secs(30);

/// Connect to the guest's serial console: a WebSocket with the console's bytes in both directions, as binary messages
#[utoipa::path(get, path = "/instances/{key}/console", tag = "instances",
    params(("key" = String, Path, description = "id or name"),
        ("force" = Option<bool>, Query, description = "disconnect the client that is connected")),
    responses(
        (status = 101, description = "the WebSocket; it is closed with the reason"),
        (status = "default", body = ErrorBody)))]
pub async fn connect(
    State(face): State<Face>,
    Key(key): Key,
    query: Query,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let force = query.flag("force")?;
    let name = key.clone();
    let asked = key.clone();
    let id = face.ask(move |engine| engine.instances().with_console(&asked)).await?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::invalid(
            format!("this call needs a WebSocket: {}", rejection.body_text().trim_end_matches('.')),
            "use `handover instance console`, or a client for WebSockets",
        )
    })?;
    let turn = face.consoles.take(id, force).ok_or_else(|| {
        Problem::new(
            Code::InUse,
            format!("another client is connected to the console of {name:?}"),
            "`handover instance console --force` (in REST: force=true) disconnects it",
        )
    })?;
    // Connect only after taking the turn: the VMM accepts one client, and the next would wait in its queue.
    let console = open(&face, key).await?;
    info!(instance = %name, "a client is connected to the console");
    let upgrade = upgrade.max_message_size(MOST_INPUT);
    Ok(upgrade.on_upgrade(async move |socket| serve(&face, &turn, console, socket).await))
}

async fn open(face: &Face, key: String) -> Result<UnixStream, Problem> {
    let console = face.ask(move |engine| engine.instances().open_console(&key)).await?;
    let console = console.set_nonblocking(true).and_then(|()| UnixStream::from_std(console));
    console.map_err(|error| Problem::unforeseen(&error))
}

/// Passes bytes on until one side ends.
async fn serve(face: &Face, turn: &Turn, console: UnixStream, socket: WebSocket) {
    let (output, input) = console.into_split();
    let (mut to_client, mut from_client) = socket.split();
    let end = tokio::select! {
        end = write_out(output, &mut to_client) => end,
        end = type_in(&mut from_client, input) => end,
        () = turn.taken.notified() => End::Taken,
        () = face.stopped() => End::Stopping,
    };
    debug!(?end, "a console's client was disconnected");
    let frame = CloseFrame { code: close_code::NORMAL, reason: end.reason().into() };
    // A client that closed gets the answer to that, one that is there answers, and one that is gone fails.
    let closed = async {
        let _ = to_client.send(Message::Close(Some(frame))).await;
        while let Some(Ok(_)) = from_client.next().await {}
    };
    let _ = timeout(GOODBYE, closed).await;
}

/// Why a console's client is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Client,
    Machine,
    Slow,
    Stopping,
    Taken,
}

impl End {
    const fn reason(self) -> &'static str {
        match self {
            Self::Client => "",
            Self::Machine => "the machine has ended",
            Self::Slow => "this client did not read the output for 10 s",
            Self::Stopping => "the daemon is stopping; the machine goes on",
            Self::Taken => "another client took the console",
        }
    }
}

/// Sends the console's output to the client.
async fn write_out(mut output: OwnedReadHalf, client: &mut SplitSink<WebSocket, Message>) -> End {
    let mut chunk = vec![0; CHUNK];
    let mut ask = tokio::time::interval_at(Instant::now() + ASK, ASK);
    loop {
        let message = tokio::select! {
            read = output.read(&mut chunk) => match read {
                Ok(0) | Err(_) => return End::Machine,
                Ok(length) => {
                    Message::Binary(chunk.get(..length).unwrap_or_default().to_vec().into())
                }
            },
            _ = ask.tick() => Message::Ping(Default::default()),
        };
        match timeout(SLOW, client.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Client,
            Err(_) => return End::Slow,
        }
    }
}

/// Types the client's bytes into the console.
async fn type_in(client: &mut SplitStream<WebSocket>, mut input: OwnedWriteHalf) -> End {
    // A client that is there answers when it is asked.
    while let Ok(Some(Ok(message))) = timeout(ASK * 2, client.next()).await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return End::Client,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        if input.write_all(&bytes).await.is_err() {
            return End::Machine;
        }
    }
    End::Client
}

/// The consoles that have a client: each can have one.
#[derive(Clone, Debug, Default)]
pub struct Consoles(Arc<Mutex<HashMap<Uuid, Arc<Notify>>>>);

/// A client's turn at a console, until it is dropped.
#[derive(Debug)]
struct Turn {
    consoles: Consoles,
    id: Uuid,
    /// Is notified when another client takes the console.
    taken: Arc<Notify>,
}

impl Consoles {
    /// A turn at a machine's console; `None` if another client has it and `force` is not set.
    fn take(&self, id: Uuid, force: bool) -> Option<Turn> {
        let taken = Arc::<Notify>::default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&id) {
            Some(earlier) if force => earlier.notify_one(),
            Some(_) => return None,
            None => {}
        }
        all.insert(id, Arc::clone(&taken));
        Some(Turn { consoles: self.clone(), id, taken })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.consoles.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another client may have taken it.
        if all.get(&self.id).is_some_and(|now| Arc::ptr_eq(now, &self.taken)) {
            all.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_has_one_client() {
        let consoles = Consoles::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = consoles.take(one, false).unwrap();
        assert!(consoles.take(one, false).is_none());
        assert!(consoles.take(other, false).is_some());
        let second = consoles.take(one, true).unwrap();
        drop(first);
        assert!(consoles.take(one, false).is_none(), "the second client still has it");
        drop(second);
        assert!(consoles.take(one, false).is_some());
    }
}
