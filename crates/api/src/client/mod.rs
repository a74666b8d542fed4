//! A small client: one connection for each request, over a unix socket or plain HTTP.

mod connection;
mod patience;
mod socket;
mod stream;
mod upload;

use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, channel::Channel};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use model::{Code, Refusal};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ErrorBody;

pub use socket::{Message, Receiver, Sender};
pub use stream::{Chunks, Lines};
pub use upload::{FilePart, Upload};

/// The maximum size of an answer that is read into memory.
const LARGEST_ANSWER: usize = 64 << 20;

/// The characters to encode in a path segment.
const SEGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'<').add(b'>').add(b'?');

/// Encodes a name as a path segment.
#[must_use]
pub fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// Encodes a value for a query.
#[must_use]
pub fn query_value(value: &str) -> String {
    utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, over plain HTTP.
    Tcp(String),
}

impl FromStr for Endpoint {
    type Err = Refusal;

    fn from_str(url: &str) -> Result<Self, Refusal> {
        if let Some(path) = url.strip_prefix("unix://") {
            if path.starts_with('/') {
                return Ok(Self::Unix(path.into()));
            }
        } else if let Some(rest) = url.strip_prefix("http://") {
            let authority = rest.trim_end_matches('/');
            if !authority.is_empty() && !authority.contains(['/', '?', '#', '@']) {
                let port =
                    authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
                let suffix = if port { "" } else { ":80" };
                return Ok(Self::Tcp(format!("{authority}{suffix}")));
            }
        }
        Err(Refusal::new(
            Code::InvalidRequest,
            format!("invalid URL of a daemon: {url:?}"),
            "use a URL such as unix:///run/handover/handover.sock or http://127.0.0.1:8080",
        ))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "http://{authority}"),
        }
    }
}

/// A client of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<String>,
    /// Is told what the daemon recovers while a call waits for it; without it, calls do not wait.
    news: Option<fn(&str)>,
}

type Body = Either<Full<Bytes>, Channel<Bytes, std::io::Error>>;

impl Client {
    /// A client of the daemon at `endpoint`. It connects at each request.
    #[must_use]
    pub const fn new(endpoint: Endpoint, token: Option<String>) -> Self {
        Self { endpoint, token, news: None }
    }

    /// The same client, which waits while the daemon recovers interrupted operations, up to 2 minutes. `news` is called once
    /// with what it waits for.
    #[must_use]
    pub fn waiting(self, news: fn(&str)) -> Self {
        Self { news: Some(news), ..self }
    }

    /// The address of the daemon.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `GET`.
    ///
    /// # Errors
    /// The daemon's refusal; `daemon_unreachable` if no daemon answers.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.json(Method::GET, path, None::<&()>).await
    }

    /// `POST`, with or without a JSON body.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Refusal> {
        self.json(Method::POST, path, body).await
    }

    /// `POST` with an answer without a body.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post_quietly(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(), Refusal> {
        self.exchange(Method::POST, path, body).await.map(drop)
    }

    /// `POST`, with the answer's body; `None` if it has none.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post_and_read<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Option<T>, Refusal> {
        read(&self.exchange(Method::POST, path, body).await?)
    }

    /// `PATCH`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Refusal> {
        self.json(Method::PATCH, path, Some(body)).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete(&self, path: &str) -> Result<(), Refusal> {
        self.patiently(Method::DELETE, path, None).await.map(drop)
    }

    /// `DELETE`, with the answer's body; `None` if it has none.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete_and_read<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, Refusal> {
        read(&self.patiently(Method::DELETE, path, None).await?)
    }

    /// `POST` of files, which are streamed.
    ///
    /// # Errors
    /// As [`get`](Self::get); `invalid_request` if a file cannot be read.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        upload: Upload,
    ) -> Result<T, Refusal> {
        self.send_body(path, upload.start().await?).await
    }

    /// `POST` of one file as the whole body, which is streamed.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub async fn upload_file<T: DeserializeOwned>(
        &self,
        path: &str,
        file: FilePart,
        content_type: &str,
    ) -> Result<T, Refusal> {
        self.send_body(path, upload::whole_file(file, content_type).await?).await
    }

    async fn send_body<T: DeserializeOwned>(
        &self,
        path: &str,
        sending: upload::Sending,
    ) -> Result<T, Refusal> {
        let mut request = self.request(Method::POST, path)?;
        set_header(&mut request, header::CONTENT_TYPE, &sending.content_type)?;
        if let Some(length) = sending.length {
            set_header(&mut request, header::CONTENT_LENGTH, &length.to_string())?;
        }
        let response = self.send(request, Either::Right(sending.body)).await?;
        read(&whole(response).await?)
    }

    /// The `data` of a stream of server-sent events.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn lines(&self, path: &str) -> Result<Lines, Refusal> {
        let mut request = self.request(Method::GET, path)?;
        set_header(&mut request, header::ACCEPT, "text/event-stream")?;
        let response = self.send(request, Either::Left(Full::default())).await?;
        if response.status() == StatusCode::OK {
            return Ok(Lines::of(response.into_body()));
        }
        Err(refused(response.status(), &collect(response).await?))
    }

    /// A body of bytes, as they arrive.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn bytes(&self, path: &str) -> Result<Chunks, Refusal> {
        let request = self.request(Method::GET, path)?;
        let response = self.send(request, Either::Left(Full::default())).await?;
        if response.status() == StatusCode::OK {
            return Ok(Chunks::of(response.into_body()));
        }
        Err(refused(response.status(), &collect(response).await?))
    }

    /// A WebSocket.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn socket(&self, path: &str) -> Result<(Sender, Receiver), Refusal> {
        let mut request = self.request(Method::GET, path)?;
        let key = socket::ask(&mut request)?;
        let response = self.send(request, Either::Left(Full::default())).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return socket::open(response, &key).await;
        }
        Err(refused(response.status(), &collect(response).await?))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Refusal> {
        read(&self.exchange(method, path, body).await?)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, Refusal> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| odd(error.to_string()))?;
        self.patiently(method, path, body.map(Bytes::from)).await
    }

    /// Sends a request once, with a JSON body or none.
    async fn once(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Bytes, Refusal> {
        let mut request = self.request(method, path)?;
        if body.is_some() {
            set_header(&mut request, header::CONTENT_TYPE, "application/json")?;
        }
        let body = body.map_or_else(Full::default, Full::from);
        whole(self.send(request, Either::Left(body)).await?).await
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<()>, Refusal> {
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost",
            Endpoint::Tcp(authority) => authority,
        };
        let resource = path.split('?').next().unwrap_or_default();
        if resource.ends_with('/') || resource.contains("//") {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "the name or id is empty",
                "name what is meant; the listing commands show names and ids",
            ));
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| odd(format!("{path:?}: {error}")))?;
        set_header(&mut request, header::HOST, host)?;
        if let Some(token) = &self.token {
            set_header(&mut request, header::AUTHORIZATION, &format!("Bearer {token}"))?;
        }
        Ok(request)
    }

    async fn send(&self, request: Request<()>, body: Body) -> Result<Response<Incoming>, Refusal> {
        let request = request.map(|()| body);
        connection::exchange(&self.endpoint, request).await
    }
}

fn set_header(
    request: &mut Request<()>,
    name: header::HeaderName,
    value: &str,
) -> Result<(), Refusal> {
    let value =
        value.parse().map_err(|_| odd(format!("invalid characters in the header {name}")))?;
    request.headers_mut().insert(name, value);
    Ok(())
}

/// The body of a successful answer, or the daemon's refusal.
async fn whole(response: Response<Incoming>) -> Result<Bytes, Refusal> {
    let status = response.status();
    let body = collect(response).await?;
    if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, Refusal> {
    let limited = http_body_util::Limited::new(response.into_body(), LARGEST_ANSWER);
    let body = limited.collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| odd(format!("the connection was lost while reading the answer: {error}")))
}

fn refused(status: StatusCode, body: &[u8]) -> Refusal {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.into(),
        Err(_) => odd(format!("it answers {status} without an error body; is it Handover?")),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // An empty answer reads as null.
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|error| odd(format!("invalid answer: {error}")))
}

fn odd(problem: String) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("talking to the daemon failed: {problem}"),
        "check the daemon's log; the versions of `handover` and the daemon may differ",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let unix: Endpoint = "unix:///run/handover/handover.sock".parse().unwrap();
        assert_eq!(unix, Endpoint::Unix("/run/handover/handover.sock".into()));
        assert_eq!("http://[::1]/".parse(), Ok(Endpoint::Tcp("[::1]:80".into())));
        assert_eq!("http://localhost:8080".parse(), Ok(Endpoint::Tcp("localhost:8080".into())));
        for wrong in ["", "unix://relative", "https://x", "http://", "http://u@h", "localhost:80"] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_become_one_segment() {
        assert_eq!(segment("docker.io/library/nginx:1"), "docker.io%2Flibrary%2Fnginx:1");
    }
}
