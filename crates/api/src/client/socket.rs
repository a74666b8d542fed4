//! WebSockets (RFC 6455): bytes in both directions.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use model::Refusal;
use serde::Serialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{odd, set_header};

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// What the other side sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Bytes.
    Bytes(Bytes),
    /// A text.
    Text(String),
    /// The end, with the daemon's reason for it; empty if it gave none.
    Closed(String),
}

/// Makes a request one for a WebSocket. Returns its key.
pub(super) fn ask(request: &mut Request<()>) -> Result<String, Refusal> {
    let key = generate_key();
    set_header(request, header::CONNECTION, "Upgrade")?;
    set_header(request, header::UPGRADE, "websocket")?;
    set_header(request, header::SEC_WEBSOCKET_VERSION, "13")?;
    set_header(request, header::SEC_WEBSOCKET_KEY, &key)?;
    Ok(key)
}

/// Both directions of the WebSocket that answers a request with this key.
pub(super) async fn open(
    response: Response<Incoming>,
    key: &str,
) -> Result<(Sender, Receiver), Refusal> {
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|accepted| accepted != derive_accept_key(key.as_bytes()).as_str()) {
        return Err(odd("the answer is not one of a WebSocket".into()));
    }
    let stream = hyper::upgrade::on(response).await.map_err(|error| odd(error.to_string()))?;
    let stream = Stream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await;
    let (sender, receiver) = stream.split();
    Ok((Sender(sender), Receiver(receiver)))
}

/// The direction to the daemon.
#[derive(Debug)]
pub struct Sender(SplitSink<Stream, Frame>);

impl Sender {
    /// Sends bytes.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Refusal> {
        self.0.send(Frame::Binary(bytes)).await.map_err(lost)
    }

    /// Sends a value as a text of JSON.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn tell(&mut self, value: &impl Serialize) -> Result<(), Refusal> {
        let text = serde_json::to_string(value).map_err(|error| odd(error.to_string()))?;
        self.0.send(Frame::Text(text.into())).await.map_err(lost)
    }

    /// Tells the daemon that this is the end.
    pub async fn close(&mut self) {
        // It notices a closed connection as well.
        let _ = self.0.close().await;
    }
}

/// The direction from the daemon.
#[derive(Debug)]
pub struct Receiver(SplitStream<Stream>);

impl Receiver {
    /// The next message.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn next(&mut self) -> Result<Message, Refusal> {
        loop {
            match self.0.next().await.transpose().map_err(lost)? {
                None => return Ok(Message::Closed(String::new())),
                Some(Frame::Binary(bytes)) => return Ok(Message::Bytes(bytes)),
                Some(Frame::Text(text)) => return Ok(Message::Text(text.as_str().to_owned())),
                Some(Frame::Close(why)) => {
                    let reason = why.map(|why| why.reason.to_string());
                    return Ok(Message::Closed(reason.unwrap_or_default()));
                }
                Some(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_)) => {}
            }
        }
    }
}

fn lost(error: tokio_tungstenite::tungstenite::Error) -> Refusal {
    odd(format!("the connection was lost: {error}"))
}
