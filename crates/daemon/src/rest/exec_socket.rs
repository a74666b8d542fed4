//! `/instances/{key}/exec` as a WebSocket: a command in the guest of a container image, with its streams.

use std::pin::pin;

use api::{ErrorBody, ExecControl, ExecEnd, ExecStart, STDERR, STDOUT};
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use service::guest::exec::{self, Input, Inputs, Output, Session};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::info;

use super::query::Key;
use super::sockets::{self, ASK, SLOW};
use super::{Face, Problem};

/// Run a command in the guest of a container image, with its streams: a WebSocket. The first message is a text, the request as JSON;
/// bytes are input and output, and the last message is a text with the exit status
#[utoipa::path(get, path = "/instances/{key}/exec", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses(
        (status = 101, description = "the WebSocket; docs/rest.md has its messages"),
        (status = "default", body = ErrorBody)))]
pub async fn connect(
    State(face): State<Face>,
    Key(key): Key,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let asked = key.clone();
    face.ask(move |engine| engine.instances().expect_guest_sessions(&asked)).await?;
    let upgrade =
        upgrade.map_err(|rejection| sockets::needed(&rejection, "handover instance exec"))?;
    let upgrade = upgrade.max_message_size(sockets::MOST_INPUT);
    Ok(upgrade.on_upgrade(async move |socket| serve(&face, &key, socket).await))
}

/// Why a session ends.
enum End {
    Command(ExecEnd),
    Client,
    Slow,
    Stopping,
}

async fn serve(face: &Face, key: &str, socket: WebSocket) {
    let (mut to, mut from) = socket.split();
    let (separate, end) = match sockets::first::<ExecStart>(&mut from).await {
        Ok(start) => (start.separate, run(face, key, start, &mut to, &mut from).await),
        Err(refusal) => (false, End::Command(exec::not_started(refusal.into()))),
    };
    let reason = match end {
        End::Command(end) => {
            tell(&mut to, &end, separate).await;
            ""
        }
        End::Client => "",
        End::Slow => "this client did not read the output; the command was hung up",
        End::Stopping => "the daemon is stopping; the command was hung up",
    };
    sockets::goodbye(to, from, reason).await;
}

async fn run(
    face: &Face,
    key: &str,
    start: ExecStart,
    to: &mut SplitSink<WebSocket, Message>,
    from: &mut SplitStream<WebSocket>,
) -> End {
    let separate = start.separate;
    info!(instance = key, tty = start.tty, "a client runs a command in the guest");
    let inputs = Inputs::default();
    let mut taking = pin!(take_in(from, inputs.sender()));
    let opened = tokio::select! {
        opened = exec::open(&face.engine, key, start, inputs) => opened,
        // A command does not start for a client that has gone while it waited for the guest.
        () = &mut taking => return End::Client,
        end = ask(to) => return end,
        () = face.stopped() => return End::Stopping,
    };
    let mut session = match opened {
        Ok(session) => session,
        Err(failure) => return End::Command(exec::not_started(failure)),
    };
    tokio::select! {
        end = write_out(&mut session, to, separate) => end,
        () = taking => End::Client,
        () = face.stopped() => End::Stopping,
    }
}

/// Asks the client whether it is there, until it is not.
async fn ask(client: &mut SplitSink<WebSocket, Message>) -> End {
    loop {
        tokio::time::sleep(ASK).await;
        if let Err(end) = send(client, Message::Ping(Default::default())).await {
            return end;
        }
    }
}

async fn send(client: &mut SplitSink<WebSocket, Message>, message: Message) -> Result<(), End> {
    match timeout(SLOW, client.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Client),
        Err(_) => Err(End::Slow),
    }
}

/// Sends the command's output to the client.
async fn write_out(
    session: &mut Session,
    client: &mut SplitSink<WebSocket, Message>,
    separate: bool,
) -> End {
    let bytes = |mark: u8, bytes: Vec<u8>| match separate {
        true => Message::Binary([&[mark], bytes.as_slice()].concat().into()),
        false => Message::Binary(bytes.into()),
    };
    let mut ask = tokio::time::interval_at(Instant::now() + ASK, ASK);
    loop {
        let message = tokio::select! {
            output = session.next() => match output {
                Output::Stdout(output) => bytes(STDOUT, output),
                Output::Stderr(output) => bytes(STDERR, output),
                Output::Ended(end) => return End::Command(end),
            },
            _ = ask.tick() => Message::Ping(Default::default()),
        };
        if let Err(end) = send(client, message).await {
            return end;
        }
    }
}

/// Passes on what the client sends, until it goes.
async fn take_in(client: &mut SplitStream<WebSocket>, command: mpsc::Sender<Input>) {
    // A client that is there answers when it is asked, unless it cannot show what it got.
    while let Ok(Some(Ok(message))) = timeout(SLOW, client.next()).await {
        let inputs = match message {
            Message::Binary(bytes) => vec![Input::Bytes(bytes.into())],
            Message::Text(text) => match serde_json::from_str::<ExecControl>(&text) {
                Ok(ExecControl { resize, end_input }) if resize.is_some() || end_input => {
                    let end = end_input.then_some(Input::End);
                    resize.map(Input::Resize).into_iter().chain(end).collect()
                }
                _ => vec![Input::Bytes(text.as_bytes().to_vec())],
            },
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        for input in inputs {
            // Of a command that takes none any more, the output says how it ended.
            let _ = command.send(input).await;
        }
    }
}

/// Tells the client how the command ended.
async fn tell(client: &mut SplitSink<WebSocket, Message>, end: &ExecEnd, separate: bool) {
    if let (Some(error), false) = (&end.error, separate) {
        let _ = timeout(SLOW, client.send(Message::Binary(exec::shown(error).into()))).await;
    }
    let _ = timeout(SLOW, client.send(sockets::text(end))).await;
}
