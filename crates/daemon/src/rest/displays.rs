//! `/instances/{key}/display`: a guest's screen as a WebSocket with the bytes of VNC or SPICE.

use std::time::Duration;

use api::{DisplayAccess, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use service::display;
use tracing::info;

use super::query::Key;
use super::{Face, Problem, sockets};

/// How long a viewer may take to read. Meanwhile QEMU skips pictures for it; the guest goes on.
const SLOW: Duration = Duration::from_secs(60);

/// Connect a viewer to the guest's screen: a WebSocket with the bytes of its protocol in both directions, as binary
/// messages. A SPICE viewer needs one for each of its channels.
#[utoipa::path(get, path = "/instances/{key}/display", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses(
        (status = 101, description = "the WebSocket; it is closed with the reason"),
        (status = "default", body = ErrorBody)))]
pub async fn connect(
    State(face): State<Face>,
    Key(key): Key,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let asked = key.clone();
    face.ask(move |engine| engine.instances().with_display(&asked)).await?;
    let upgrade =
        upgrade.map_err(|rejection| sockets::needed(&rejection, "handover instance view"))?;
    let name = key.clone();
    let viewer = face.ask(move |engine| engine.instances().open_display(&key)).await?;
    let viewer = sockets::adopted(viewer)?;
    info!(instance = %name, "a viewer is connected to the screen");
    let upgrade = upgrade.max_message_size(sockets::MOST_INPUT);
    Ok(upgrade.on_upgrade(async move |socket| {
        sockets::serve(&face, viewer, socket, SLOW, std::future::pending()).await;
    }))
}

/// Show how viewers reach the guest's screen by its address: the password, and for SPICE the certificate
#[utoipa::path(get, path = "/instances/{key}/display/access", tag = "instances",
    params(("key" = String, Path, description = "id or name")),
    responses((status = 200, body = DisplayAccess), (status = "default", body = ErrorBody)))]
pub async fn access(
    State(face): State<Face>,
    Key(key): Key,
) -> Result<Json<DisplayAccess>, Problem> {
    face.ask(move |engine| display::access(engine, &key)).await.map(Json)
}
