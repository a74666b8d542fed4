//! HTTP requests to the daemon on a simulated host: a line `METHOD PATH`, then the body.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use engine::{Config, Engine, Silent};
use http_body_util::BodyExt;
use model::doctor::{Facts, Platform};
use model::{Host, HostError, Inventory, Launcher, Scan};
use serde_json::Value;
use sim::{SimHost, SimLauncher};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::scratch;
use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "requests",
    reads: "HTTP requests: paths, queries and bodies",
    read,
    words: &[
        "POST /claims?dry_run=true\n",
        "POST /claims\n",
        "POST /pods\n",
        "POST /devices\n",
        "POST /instances\n",
        "POST /images\n",
        "POST /return\n",
        "POST /sriov/0000:03:00.0\n",
        "GET /claims/",
        "DELETE /claims/",
        "GET /topology?format=svg\n",
        "GET /doctor?device=\n",
        "GET /devices/available?",
        "{\"owner\":\"pod/a\",\"wants\":[\"gpu\"]}",
        "{\"machines\":\"",
        "\"lease_seconds\":",
        "\"prepare\":false",
        "\"pci_address\":\"0000:01:00.0\"",
        "\"name\":",
        "\"count\":",
        "\"image\":",
        "\"size\":\"1GB\"",
        "\"vcpus\":",
        "tags[a]=b",
        "%2F",
        "%00",
        "&",
        "null",
        "[]",
        "{}",
        "-1",
        "18446744073709551615",
    ],
    longest: 1 << 14,
};

/// A daemon without listeners. It is replaced after a request that changed something, so that an input alone decides.
struct Daemon {
    router: Router,
    engine: Engine,
    _dir: tempfile::TempDir,
}

static DAEMON: Mutex<Option<Daemon>> = Mutex::new(None);
static RUNTIME: std::sync::LazyLock<Option<Runtime>> = std::sync::LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build().ok()
});

struct Scanned(Arc<SimHost>);

impl Scan for Scanned {
    fn detail(&self) -> Result<Inventory, HostError> {
        self.0.inventory()
    }

    fn platform(&self) -> Platform {
        Platform::default()
    }

    fn facts(&self) -> Result<Facts, HostError> {
        Ok(Facts { inventory: self.0.inventory()?, holders: Vec::new(), ..Facts::default() })
    }
}

impl Daemon {
    fn start() -> Option<Self> {
        let dir = scratch::dir().ok()?;
        let host = Arc::new(SimHost::new(sim::workstation()));
        let launcher: Arc<dyn Launcher> = Arc::new(SimLauncher::new(host.clone()));
        let config = Config {
            state_dir: dir.path().join("state"),
            image_dirs: vec![dir.path().join("images")],
            block_dirs: Vec::new(),
            image_limits: engine::ImageLimits::default(),
            machine_uids: 200_000..200_100,
            shutdown_grace: Duration::from_secs(1),
            journal_timeout: engine::JOURNAL_TIMEOUT,
            journal_kept: engine::JournalKept::default(),
            guest_init: None,
        };
        let engine = Engine::open(config, host.clone(), vec![launcher], Arc::new(Silent)).ok()?;
        engine.recover().ok()?;
        let router = daemon::rest::offline(engine.clone(), Arc::new(Scanned(host)));
        Some(Self { router, engine, _dir: dir })
    }

    /// Whether the request left something behind.
    fn is_changed(&self) -> bool {
        self.engine.journal(1).map_or(true, |operations| !operations.is_empty())
            || self
                .engine
                .devices()
                .all(&BTreeMap::new())
                .map_or(true, |devices| !devices.is_empty())
    }
}

fn read(bytes: &[u8]) -> Kind {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let line = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let body = bytes.get(end + 1..).unwrap_or_default().to_vec();
    let Some((method, path)) = line.split_once(' ') else { return Kind::of("no request") };
    let request = Request::builder().method(method).uri(path).body(Body::from(body));
    let Ok(request) = request else { return Kind::of("no HTTP") };
    // It never ends, and is no answer to an input.
    if request.uri().path() == "/events" {
        return Kind::of("events");
    }
    let mut daemon = DAEMON.lock().unwrap_or_else(PoisonError::into_inner);
    if daemon.is_none() {
        *daemon = Daemon::start();
    }
    let (Some(running), Some(runtime)) = (daemon.as_ref(), RUNTIME.as_ref()) else {
        unreachable!("the daemon on the simulated host does not start");
    };
    let router = running.router.clone();
    let (status, answer) = runtime.block_on(async move {
        // A router's error is `Infallible`.
        let Ok(response) = router.oneshot(request).await;
        let status = response.status();
        (
            status,
            response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
        )
    });
    if running.is_changed() {
        *daemon = None;
    }
    if status.is_client_error() || status.is_server_error() {
        assert!(status.as_u16() != 500, "{status}: {}", String::from_utf8_lossy(&answer));
        let body: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (code, message) = (text(&body["code"]), text(&body["message"]));
        assert!(!code.is_empty() && !message.is_empty(), "{status} without words: {line:?}");
        return Kind::of(message).and(usize::from(status.as_u16()));
    }
    Kind::of(path).and(usize::from(status.as_u16())).and(answer.len())
}
