//! `/topology` and `/doctor`: full scans of the host, as by `handover topo` and `handover doctor`.

use std::sync::Arc;

use api::{ErrorBody, schema};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use model::doctor::{Facts, Verdict};
use model::topology::{Picture, Wanted, svg};
use model::{Address, Code, HostError, Refusal, Scan};
use tokio::sync::Mutex;

use super::query::Query;
use super::{Face, Problem};

/// Scans the host on request.
#[derive(Clone)]
pub struct Scanner {
    host: Arc<dyn Scan>,
    /// A scan reads the whole host with many workers: one at a time.
    turn: Arc<Mutex<()>>,
}

impl Scanner {
    /// A scanner of this host.
    pub fn new(host: Arc<dyn Scan>) -> Self {
        Self { host, turn: Arc::default() }
    }

    /// The host.
    pub(super) fn host(&self) -> Arc<dyn Scan> {
        self.host.clone()
    }

    async fn run<T, F>(&self, scan: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Scan) -> Result<T, Refusal> + Send + 'static,
    {
        // Moves into the thread: the scan continues if the client stops waiting.
        let turn = self.turn.clone().lock_owned().await;
        let host = self.host.clone();
        let ran = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            scan(&*host)
        });
        match ran.await {
            Ok(answer) => answer.map_err(Problem::from),
            Err(error) => Err(Problem::unforeseen(&error)),
        }
    }
}

fn unreadable(error: &HostError) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("cannot read the host: {error}"),
        "run the daemon as root, on Linux with sysfs and procfs",
    )
}

/// Draw the host's device tree: NUMA nodes, root ports, switches, links, IOMMU groups, distances
///
/// Scans the host. JSON as by `handover topo --json`; an SVG picture with `format=svg`, or if the `Accept` header
/// prefers it.
#[utoipa::path(get, path = "/topology", tag = "host",
    params(
        ("format" = Option<schema::TreeFormat>, Query, description = "`json` or `svg`"),
        ("all" = Option<bool>, Query, description = "include the host's own functions and empty ports"),
        ("distances" = Option<bool>, Query, description = "include the distances between devices, however many")),
    responses(
        (status = 200, content((Object = "application/json"), (String = "image/svg+xml"))),
        (status = "default", body = ErrorBody)))]
pub async fn topology(
    State(face): State<Face>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let drawn = match query.get("format")? {
        Some("svg") => true,
        Some("json") => false,
        Some(other) => {
            let message = format!("unknown format {other:?}");
            return Err(Problem::invalid(message, "use json or svg"));
        }
        None => wants_picture(&headers),
    };
    let (all, distances) = (query.flag("all")?, query.flag("distances")?);
    let own = face.ask(|engine| engine.own_state()).await?;
    let inventory = face.scanner.run(|host| host.detail().map_err(|error| unreadable(&error)));
    let inventory = inventory.await?;
    let wanted = Wanted { all, distances, own: Some(&own), meant: None };
    let picture = Picture::of(&inventory, wanted);
    let varies = [(header::VARY, "accept")];
    if drawn {
        return Ok((varies, PICTURE, svg::render(&picture)).into_response());
    }
    Ok((varies, Json(picture)).into_response())
}

/// A picture has styles and no scripts: a browser needs no other permissions.
const PICTURE: [(HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "image/svg+xml"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
];

/// Whether SVG is preferred to JSON (RFC 9110, 12.5.1).
fn wants_picture(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<(&str, f32)> = accepted.flat_map(|line| line.split(',')).map(range).collect();
    // The most specific matching range determines the quality of a format.
    let weight = |forms: [&str; 3]| {
        let of = |form: &str| ranges.iter().find(|(range, _)| range.eq_ignore_ascii_case(form));
        forms.into_iter().find_map(of).map_or(0.0, |(_, weight)| *weight)
    };
    let picture = weight(["image/svg+xml", "image/*", "*/*"]);
    picture > weight(["application/json", "application/*", "*/*"])
}

/// A media range and its quality.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
    (name, quality.unwrap_or(1.0))
}

/// Report what blocks handing devices over on this host, and how to fix it
///
/// Scans the host and changes nothing. The answer is that of `handover doctor --json`.
#[utoipa::path(get, path = "/doctor", tag = "host",
    params(("for" = Option<schema::PciAddress>, Query,
        description = "only what concerns the function at this address and its assembly")),
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub async fn doctor(State(face): State<Face>, query: Query) -> Result<Json<Verdict>, Problem> {
    let only = query.get("for")?.map(str::parse::<Address>).transpose().map_err(Refusal::from)?;
    let own = face.ask(|engine| engine.own_state()).await?;
    let scanned = face.scanner.run(move |host| {
        let facts = host.facts().map_err(|error| unreadable(&error))?;
        Facts { own, ..facts }.examine(only)
    });
    scanned.await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn svg_is_sent_if_the_accept_header_prefers_it() {
        let wants = |accept: &str| {
            let value = accept.parse().unwrap();
            wants_picture(&HeaderMap::from_iter([(header::ACCEPT, value)]))
        };
        // By curl, by a browser's address bar, by an `img` in a page.
        assert!(!wants("*/*"));
        assert!(!wants("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(wants("image/avif,image/webp,image/svg+xml,image/*;q=0.8,*/*;q=0.5"));
        assert!(wants("image/svg+xml"));
        assert!(wants("application/json;q=0.5, Image/SVG+XML"));
        assert!(!wants("application/json, image/svg+xml;q=0.9"));
        for odd in ["", ";;,,;q=", "image/svg+xml;q=NaN", "image/svg+xml;q=-1", "q=1"] {
            assert!(!wants(odd), "{odd}");
        }
        assert!(!wants_picture(&HeaderMap::new()));
    }
}
