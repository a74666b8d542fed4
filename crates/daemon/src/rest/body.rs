//! JSON bodies.

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::Problem;

/// The largest JSON body.
const LARGEST: usize = 1 << 20;

/// How much of a larger one is read and thrown away: a client that is still sending would not see why it is refused.
const PATIENCE: usize = 16 << 20;

/// A body that is read as JSON whatever its Content-Type says: `curl -d` sends a form's.
pub struct JsonBody(Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let mut stream = request.into_body().into_data_stream();
        let (mut body, mut received) = (BytesMut::new(), 0);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::invalid(format!("the body cannot be read: {error}"), "send it again")
            })?;
            received += chunk.len();
            if received <= LARGEST {
                body.extend_from_slice(&chunk);
            } else if received > PATIENCE {
                break;
            }
        }
        if received > LARGEST {
            let problem = Problem::invalid("the body is larger than 1 MiB", "send less");
            return Err(problem.with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(Self(body.freeze()))
    }
}

impl JsonBody {
    /// The body as a value, or the value that no body means.
    pub fn read_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.0.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { self.read() }
    }

    /// The body as a value. Unknown fields are ignored: clients of other versions send more.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::invalid(
                "the request has no body",
                "send JSON; GET /openapi.json shows what",
            ));
        }
        serde_json::from_slice(&self.0).map_err(|error| {
            Problem::invalid(
                format!("the body is not the JSON that is expected: {error}"),
                "GET /openapi.json shows what is expected",
            )
        })
    }
}
