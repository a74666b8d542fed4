//! Requests that come before recovery has ended. Reading is served; changes wait.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use service::refusals;
use tokio::sync::watch;

use super::{Face, Problem};

/// After how many seconds a refused client should retry.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Lets changes in when the daemon has started.
#[derive(Clone)]
pub struct Gate {
    /// Becomes true at the end of recovery.
    pub started: watch::Receiver<bool>,
    /// How long a change waits for that.
    pub hold: Duration,
}

impl Gate {
    /// The gate of an engine that has recovered.
    pub fn open() -> Self {
        Self { started: watch::channel(true).1, hold: Duration::ZERO }
    }

    /// Whether the daemon has started.
    pub fn is_open(&self) -> bool {
        *self.started.borrow()
    }

    /// Waits until the daemon has started; false if that takes too long or fails.
    async fn opens(&self) -> bool {
        let mut started = self.started.clone();
        let opened = tokio::time::timeout(self.hold, started.wait_for(|started| *started));
        // An error inside means that the start failed.
        matches!(opened.await, Ok(Ok(_)))
    }
}

/// The middleware: lets a change wait until the daemon has started, and refuses it if that takes too long.
pub async fn hold(State(face): State<Face>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let admitted = reads
        || tokio::select! {
            opened = face.gate.opens() => opened,
            () = face.stopped() => face.gate.is_open(),
        };
    if admitted {
        return next.run(request).await;
    }
    let problem = Problem::from(refusals::starting(&face.engine.recovering()));
    let mut response = problem.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}
