//! The parts of hypeman's API that Handover does not implement.

use axum::Router;
use axum::extract::Request;
use axum::routing::any;

use super::{Face, Problem};

/// Paths, and what they would do.
const NOT_OFFERED: [(&str, &str); 18] = [
    ("/instances/{key}/standby", "standby"),
    ("/instances/{key}/restore", "restore"),
    ("/instances/{key}/fork", "fork"),
    ("/instances/{key}/auto-standby/{*rest}", "standby"),
    ("/instances/{key}/snapshots", "snapshots"),
    ("/instances/{key}/snapshots/{*rest}", "snapshots"),
    ("/instances/{key}/snapshot-schedule", "snapshots"),
    ("/ingresses", "ingresses"),
    ("/ingresses/{*rest}", "ingresses"),
    ("/builds", "builds"),
    ("/builds/{*rest}", "builds"),
    ("/builders", "builders"),
    ("/builders/{*rest}", "builders"),
    ("/snapshots", "snapshots"),
    ("/snapshots/{*rest}", "snapshots"),
    ("/pushes", "pushes of images"),
    ("/pushes/{*rest}", "pushes of images"),
    ("/resources/memory/reclaim", "reclaiming of memory"),
];

/// Routes that answer 501.
pub fn routes() -> Router<Face> {
    NOT_OFFERED.into_iter().fold(Router::new(), |router, (path, what)| {
        router.route(path, any(move |_: Request| async move { not_offered(what) }))
    })
}

fn not_offered(what: &str) -> Problem {
    Problem::not_implemented(what, "GET /openapi.json lists the supported calls")
}

/// `POST /images/{name}/tag`, which exists in hypeman's API: names of images have slashes, so it has no route of its own.
pub fn tagging() -> Problem {
    not_offered("tagging images")
}
