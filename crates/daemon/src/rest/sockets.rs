//! WebSockets that pass bytes on between a client and a machine, such as its console.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use model::Refusal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service::refusals;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{Face, Problem};

/// The size of a message to the client, in bytes.
const CHUNK: usize = 16 << 10;

/// The largest message from the client, in bytes.
pub const MOST_INPUT: usize = 1 << 20;

/// How long a client may take to answer that its connection is closed.
pub const GOODBYE: Duration = Duration::from_secs(2);

/// How long a client of a session with a guest may read nothing, or say nothing: it may wait for a person.
pub const SLOW: Duration = Duration::from_secs(300);

/// How often a client is asked whether it is there.
pub const ASK: Duration = Duration::from_secs(30);

/// The problem with a request that asks for no WebSocket; `instead` is the command to use.
pub fn needed(rejection: &WebSocketUpgradeRejection, instead: &str) -> Problem {
    Problem::invalid(
        format!("this call needs a WebSocket: {}", rejection.body_text().trim_end_matches('.')),
        format!("use `{instead}`, or a client for WebSockets"),
    )
}

/// Makes a connection to a machine one of this runtime.
pub fn adopted(stream: std::os::unix::net::UnixStream) -> Result<UnixStream, Problem> {
    let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
    stream.map_err(|error| Problem::unforeseen(&error))
}

/// Passes bytes on until one side ends, or `taken` does. A client may take `slow` to read a message.
pub async fn serve(
    face: &Face,
    machine: UnixStream,
    socket: WebSocket,
    slow: Duration,
    taken: impl Future<Output = ()>,
) {
    let (output, input) = machine.into_split();
    let (mut to_client, mut from_client) = socket.split();
    let end = tokio::select! {
        end = write_out(output, &mut to_client, slow) => end,
        end = type_in(&mut from_client, input) => end,
        () = taken => End::Taken,
        () = face.stopped() => End::Stopping,
    };
    debug!(?end, "a client was disconnected from a machine");
    goodbye(to_client, from_client, &end.reason(slow)).await;
}

/// Closes a connection with a reason, which is empty where the client needs none.
pub async fn goodbye(
    mut to_client: SplitSink<WebSocket, Message>,
    mut from_client: SplitStream<WebSocket>,
    reason: &str,
) {
    let frame = CloseFrame { code: close_code::NORMAL, reason: reason.into() };
    // A client that closed gets the answer to that, one that is there answers, and one that is gone fails.
    let closed = async {
        let _ = to_client.send(Message::Close(Some(frame))).await;
        while let Some(Ok(_)) = from_client.next().await {}
    };
    let _ = timeout(GOODBYE, closed).await;
}

/// The first message of a client, which is its request.
pub async fn first<T: DeserializeOwned>(client: &mut SplitStream<WebSocket>) -> Result<T, Refusal> {
    let invalid = |why: String| {
        refusals::invalid(why, "send the request as JSON, as a text, within 30 s of the connection")
    };
    let read = async {
        loop {
            match client.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    };
    match timeout(ASK, read).await {
        Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str(&text)
            .map_err(|error| invalid(format!("the request is not understood: {error}"))),
        Ok(_) => Err(invalid("the first message is no text".into())),
        Err(_) => Err(invalid("the first message did not come".into())),
    }
}

/// A value as a text of JSON.
pub fn text(value: &impl Serialize) -> Message {
    // The types of the API have no map with other keys than strings.
    Message::Text(serde_json::to_string(value).unwrap_or_default().into())
}

/// Why a client is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Client,
    Machine,
    Slow,
    Stopping,
    Taken,
}

impl End {
    fn reason(self, slow: Duration) -> String {
        match self {
            Self::Client => String::new(),
            Self::Machine => "the machine has ended".into(),
            Self::Slow => format!("this client did not read the output for {} s", slow.as_secs()),
            Self::Stopping => "the daemon is stopping; the machine goes on".into(),
            Self::Taken => "another client took the console".into(),
        }
    }
}

/// Sends the machine's output to the client.
async fn write_out(
    mut output: OwnedReadHalf,
    client: &mut SplitSink<WebSocket, Message>,
    slow: Duration,
) -> End {
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
        match timeout(slow, client.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Client,
            Err(_) => return End::Slow,
        }
    }
}

/// Passes the client's bytes to the machine.
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
