//! JSON bodies.

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::Problem;

/// The largest JSON body.
const LARGEST: usize = 1 << 20;

/// How much of a larger body is read and discarded: a client that is still sending would not see the refusal.
const PATIENCE: usize = 16 << 20;

/// A body that is read as JSON whatever its Content-Type: `curl -d` sends that of a form.
pub struct JsonBody(Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let mut stream = request.into_body().into_data_stream();
        let (mut body, mut received) = (BytesMut::new(), 0);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::invalid(format!("cannot read the body: {error}"), "retry")
            })?;
            received += chunk.len();
            if received <= LARGEST {
                body.extend_from_slice(&chunk);
            } else if received > PATIENCE {
                break;
            }
        }
        if received > LARGEST {
            let problem = Problem::invalid("the body is larger than 1 MiB", "send a smaller body");
            return Err(problem.with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(Self(body.freeze()))
    }
}

impl JsonBody {
    /// The body as a value; the default value without a body.
    pub fn read_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.0.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { self.read() }
    }

    /// The body as a value. Unknown fields are ignored: clients of other versions may send them.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::invalid(
                "the request has no body",
                "send JSON as described by GET /openapi.json",
            ));
        }
        serde_json::from_slice(&self.0).map_err(|error| {
            Problem::invalid(
                format!("invalid JSON body: {error}"),
                "send JSON as described by GET /openapi.json",
            )
        })
    }
}
