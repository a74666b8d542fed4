//! JSON bodies.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Problem;

/// The largest JSON body.
const LARGEST: usize = 1 << 20;

/// A body that is read as JSON whatever its Content-Type says: `curl -d` sends a form's.
pub struct JsonBody(Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        match to_bytes(request.into_body(), LARGEST).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) => {
                let problem = Problem::invalid(
                    format!("the body cannot be read: {error}"),
                    "send at most 1 MiB of JSON",
                );
                Err(problem.with_status(StatusCode::PAYLOAD_TOO_LARGE))
            }
        }
    }
}

impl JsonBody {
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
