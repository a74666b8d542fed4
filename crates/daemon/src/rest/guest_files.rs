//! `/instances/{key}/cp` and `/stat`: files in the guest of a container image.

use api::{CopyMessage, CopyRequest, ErrorBody, PathInfo};
use axum::Json;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use model::Refusal;
use service::guest::copy::{self, Copy, CopyIn, CopyOutOf, Part};
use service::{guest, refusals};
use tokio::time::timeout;
use tracing::info;

use super::query::{Key, Query};
use super::sockets::{self, GOODBYE, SLOW};
use super::{Face, Problem};

/// Show what a path in the guest of a container image is
#[utoipa::path(get, path = "/instances/{key}/stat", tag = "instances",
    params(("key" = String, Path, description = "id or name"),
        ("path" = api::schema::GuestPath, Query, description = "the path in the guest"),
        ("follow_links" = Option<bool>, Query, description = "follow a link at the path")),
    responses((status = 200, body = PathInfo), (status = "default", body = ErrorBody)))]
pub async fn stat(
    State(face): State<Face>,
    Key(key): Key,
    query: Query,
) -> Result<Json<PathInfo>, Problem> {
    let follow = query.flag("follow_links")?;
    let path = query.get("path")?.map(str::to_owned).ok_or_else(|| {
        Problem::invalid("the parameter `path` is missing", "give the path in the guest")
    })?;
    face.ask(move |engine| guest::stat(engine, &key, &path, follow)).await.map(Json)
}

/// Copy files into the guest of a container image, or out of it: a WebSocket. The first message is a text, the request as JSON; then
/// headers and ends are texts, and contents bytes
#[utoipa::path(get, path = "/instances/{key}/cp", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses(
        (status = 101, description = "the WebSocket; docs/rest.md has its messages"),
        (status = "default", body = ErrorBody)))]
pub async fn copy(
    State(face): State<Face>,
    Key(key): Key,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let asked = key.clone();
    face.ask(move |engine| engine.instances().expect_guest_sessions(&asked)).await?;
    let upgrade =
        upgrade.map_err(|rejection| sockets::needed(&rejection, "handover instance cp"))?;
    let upgrade = upgrade.max_message_size(sockets::MOST_INPUT);
    Ok(upgrade.on_upgrade(async move |socket| serve(&face, &key, socket).await))
}

async fn serve(face: &Face, key: &str, socket: WebSocket) {
    let (mut to, mut from) = socket.split();
    let reason = tokio::select! {
        copied = run(face, key, &mut to, &mut from) => match copied {
            Ok(reason) => reason,
            Err(refusal) => {
                let _ = send(&mut to, sockets::text(&CopyMessage::Error(refusal.into()))).await;
                ""
            }
        },
        () = face.stopped() => "the daemon is stopping; the copy is not complete",
    };
    sockets::goodbye(to, from, reason).await;
}

/// Copies. Returns the reason that the client is told when its connection is closed.
async fn run(
    face: &Face,
    key: &str,
    to: &mut SplitSink<WebSocket, Message>,
    from: &mut SplitStream<WebSocket>,
) -> Result<&'static str, Refusal> {
    let request: CopyRequest = sockets::first(from).await?;
    info!(instance = key, path = request.guest_path, direction = ?request.direction, "a client copies files");
    match copy::open(&face.engine, key, request).await? {
        Copy::In(copy) => copy_in(copy, to, from).await,
        Copy::Out(copy) => {
            let reason = tokio::select! {
                reason = copy_out(copy, to) => reason,
                () = gone(from) => "",
            };
            if reason.is_empty() {
                // hypeman's client takes a connection that is closed while it still writes for a copy that broke off.
                let _ = timeout(GOODBYE, gone(from)).await;
            }
            Ok(reason)
        }
    }
}

async fn copy_in(
    mut copy: CopyIn,
    to: &mut SplitSink<WebSocket, Message>,
    from: &mut SplitStream<WebSocket>,
) -> Result<&'static str, Refusal> {
    loop {
        let Ok(next) = timeout(SLOW, from.next()).await else {
            return Ok("this client sent nothing; the copy is not complete");
        };
        let part = match next {
            Some(Ok(Message::Binary(bytes))) => Part::Data(bytes.into()),
            Some(Ok(Message::Text(text))) => Part::Said(said(&text)?),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(""),
        };
        if let Some(answer) = copy.take(part).await {
            send(to, sockets::text(&answer)).await;
            return Ok("");
        }
    }
}

fn said(text: &str) -> Result<CopyMessage, Refusal> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("a message of the copy is not understood: {error}");
        refusals::invalid(message, "docs/rest.md has the messages")
    })
}

async fn copy_out(mut copy: CopyOutOf, to: &mut SplitSink<WebSocket, Message>) -> &'static str {
    while let Some(part) = copy.next().await {
        let message = match part {
            Part::Said(message) => sockets::text(&message),
            Part::Data(data) => Message::Binary(data.into()),
        };
        if !send(to, message).await {
            return "this client did not read the copy, which is not complete";
        }
    }
    ""
}

/// Waits until the client goes: it has nothing to say.
async fn gone(from: &mut SplitStream<WebSocket>) {
    while let Some(Ok(message)) = from.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}

/// Sends a message; whether the client took it.
async fn send(to: &mut SplitSink<WebSocket, Message>, message: Message) -> bool {
    matches!(timeout(SLOW, to.send(message)).await, Ok(Ok(())))
}
