//! Reads small bodies before answering.
//!
//! A refusal that leaves a body unread closes the connection, and a client that is still writing may then see a closed
//! connection instead of the answer (RFC 9112, section 9.6).

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Problem;

/// The longest body that is read ahead; longer ones are streamed.
const SMALL: usize = 64 << 10;

/// Reads a small body whole, then passes the request on.
pub async fn read_ahead(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let small =
        length.and_then(|text| text.parse().ok()).is_some_and(|length: usize| length <= SMALL);
    let body = if small {
        match to_bytes(body, SMALL).await {
            Ok(bytes) => Body::from(bytes),
            Err(error) => {
                let problem = format!("the request was interrupted: {error}");
                return Problem::invalid(problem, "retry").into_response();
            }
        }
    } else {
        body
    };
    next.run(Request::from_parts(parts, body)).await
}
