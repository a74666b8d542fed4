//! Error responses.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use model::{Code, Refusal};
use service::refusals;
use tracing::{error, info};

/// An error response.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    refusal: Box<Refusal>,
}

impl Problem {
    /// A problem with a code, a message (what failed and why) and a remedy.
    pub fn new(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal::new(code, message, remedy).into()
    }

    /// An invalid request.
    pub fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        refusals::invalid(message, remedy).into()
    }

    /// A part of the API that Handover does not implement.
    pub fn not_implemented(what: &str, remedy: impl Into<String>) -> Self {
        refusals::not_implemented(what, remedy).into()
    }

    /// An internal error.
    pub fn unforeseen(error: &dyn std::fmt::Display) -> Self {
        error!(%error, "unforeseen");
        Self::new(
            Code::Internal,
            format!("unexpected error: {error}"),
            "check the daemon's log: journalctl -u handover",
        )
    }

    /// The same with a more specific HTTP status.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.code.http_status());
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            refusal: Box::new(refusal),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        info!(code = %self.refusal.code, "refused: {}", self.refusal);
        (self.status, Json(api::ErrorBody::from(*self.refusal))).into_response()
    }
}

/// No route has this path.
pub async fn no_such_path(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        Code::NotFound,
        format!("no such path: {path}"),
        "GET /openapi.json lists every path",
    )
}

/// The path has no such method.
pub async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::invalid(
        format!("{path} does not support {method}"),
        "GET /openapi.json lists every path and its methods",
    )
    .with_status(StatusCode::METHOD_NOT_ALLOWED)
}
