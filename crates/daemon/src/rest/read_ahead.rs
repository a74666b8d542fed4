//! Reads small bodies before answering.
//!
//! A refusal that leaves a body unread closes the connection, and a client that is still writing may then see a closed
//! connection instead of the answer (RFC 9112, section 9.6).

use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use super::Problem;

/// The longest body that is read ahead; longer ones are streamed.
const SMALL: usize = 64 << 10;

/// How long a small body may take, and each part of a longer one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The parts of a body, as long as they come in time.
fn in_time(parts: BodyDataStream) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
    stream::unfold(Some(parts), async |parts| {
        let mut parts = parts?;
        match tokio::time::timeout(PATIENCE, parts.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(part))) => Some((Ok(part), Some(parts))),
            Ok(Some(Err(error))) => Some((Err(error.into()), None)),
            Err(_) => Some((Err("timed out while reading the body of the request".into()), None)),
        }
    })
}

/// Reads a small body whole, then passes the request on.
pub async fn read_ahead(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let small =
        length.and_then(|text| text.parse().ok()).is_some_and(|length: usize| length <= SMALL);
    let body = if small {
        match tokio::time::timeout(PATIENCE, to_bytes(body, SMALL)).await {
            Ok(Ok(bytes)) => Body::from(bytes),
            Err(_) => {
                let problem = "timed out while reading the body of the request";
                return Problem::invalid(problem, "retry").into_response();
            }
            Ok(Err(error)) => {
                let problem = format!("the request was interrupted: {error}");
                return Problem::invalid(problem, "retry").into_response();
            }
        }
    } else {
        Body::from_stream(in_time(body.into_data_stream()))
    };
    next.run(Request::from_parts(parts, body)).await
}
