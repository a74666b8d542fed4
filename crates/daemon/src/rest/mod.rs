//! The REST interface over an [`Engine`].

mod body;
mod claims;
mod consoles;
mod devices;
mod displays;
mod events;
mod exec;
mod exec_socket;
pub mod guard;
mod guest_files;
mod host;
mod images;
mod instances;
mod logs;
mod not_offered;
mod openapi;
mod parameters;
mod pods;
mod problem;
mod query;
pub mod read_ahead;
mod reconcile;
mod scans;
mod sockets;
mod sriov;
mod starting;
mod upload;
mod volumes;
mod wait;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use engine::{Engine, JournalEvent};
use model::{Refusal, Scan};
use tokio::sync::{Notify, broadcast, watch};

use crate::hardware::Hardware;

use consoles::Consoles;
pub use openapi::document as openapi;
pub use problem::Problem;
use scans::Scanner;
pub(crate) use starting::Gate;
pub(crate) use upload::discard_leftovers;

/// The state that handlers share.
#[derive(Clone)]
pub struct Face {
    engine: Engine,
    events: broadcast::Sender<JournalEvent>,
    hardware: Option<Hardware>,
    leases: Arc<Notify>,
    scanner: Scanner,
    gate: Gate,
    consoles: Consoles,
    stopping: watch::Receiver<bool>,
}

impl Face {
    /// The interface over `engine`. Streams and waits end when `stopping` becomes true.
    #[must_use]
    pub(crate) fn new(
        engine: Engine,
        events: broadcast::Sender<JournalEvent>,
        hardware: Option<Hardware>,
        scan: Arc<dyn Scan>,
        leases: Arc<Notify>,
        gate: Gate,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let scanner = Scanner::new(scan);
        let consoles = Consoles::default();
        Self { engine, events, hardware, leases, scanner, gate, consoles, stopping }
    }

    /// Signals that the next lease may have changed.
    fn leases_changed(&self) {
        self.leases.notify_one();
    }

    /// Calls the engine on a blocking thread.
    async fn ask<T, F>(&self, question: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Engine) -> Result<T, Refusal> + Send + 'static,
    {
        let engine = self.engine.clone();
        match tokio::task::spawn_blocking(move || question(&engine)).await {
            Ok(answer) => answer.map_err(Problem::from),
            Err(error) => Err(Problem::unforeseen(&error)),
        }
    }

    /// Returns when the daemon is stopping.
    async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // An error means that the sender, and so the daemon, is gone.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// All routes over an engine, for a process without listeners: uevents are not monitored, and leases do not expire by
/// themselves.
pub fn offline(engine: Engine, scan: Arc<dyn Scan>) -> Router {
    let (events, _) = broadcast::channel(1);
    let (_, stopping) = watch::channel(false);
    router(Face::new(engine, events, None, scan, Arc::default(), Gate::open(), stopping))
}

/// The routes below an instance.
fn instance() -> Router<Face> {
    Router::new()
        .route("/", get(instances::show).delete(instances::delete).patch(instances::update))
        .route("/template", get(instances::template))
        .route("/stop", post(instances::stop))
        .route("/start", post(instances::start))
        .route("/pause", post(instances::pause))
        .route("/resume", post(instances::resume))
        .route("/stats", get(instances::usage))
        .route("/exec", post(exec::run).get(exec_socket::connect))
        .route("/cp", get(guest_files::copy))
        .route("/stat", get(guest_files::stat))
        .route("/password", post(exec::set_password))
        .route("/logs", get(logs::stream))
        .route("/console", get(consoles::connect))
        .route("/display", get(displays::connect))
        .route("/display/access", get(displays::access))
        .route("/devices", post(instances::attach))
        .route("/devices/{device}", post(instances::attach_named).delete(instances::detach))
        .route("/networks", post(instances::attach_card))
        .route("/networks/{mac}", delete(instances::detach_card))
        .route("/volumes/{volume}", post(volumes::attach).delete(volumes::detach))
        .route("/blocks", post(volumes::attach_block))
        .route("/blocks/{block}", delete(volumes::detach_block))
        .route("/cdroms", post(volumes::insert))
        .route("/cdroms/{cdrom}", delete(volumes::eject))
        .route("/wait", get(wait::wait))
}

/// All routes, without the guard of a listener.
pub fn router(face: Face) -> Router {
    Router::new()
        .route("/health", get(host::health))
        .route("/resources", get(host::resources))
        .route("/capabilities", get(host::capabilities))
        .route("/inventory", get(host::inventory))
        .route("/topology", get(scans::topology))
        .route("/doctor", get(scans::doctor))
        .route("/openapi.json", get(openapi::serve))
        .route("/claims", get(claims::list).post(claims::create))
        .route("/claims/{key}", get(claims::show).delete(claims::release))
        .route("/claims/{key}/prepare", post(claims::prepare))
        .route("/claims/{key}/unprepare", post(claims::unprepare))
        .route("/claims/{key}/renew", post(claims::renew))
        .route("/pods", post(pods::create))
        .route("/sriov", get(sriov::list))
        .route("/sriov/{key}", post(sriov::set))
        .route("/return", post(reconcile::return_devices))
        // The old spelling, undocumented.
        .route("/recover", post(reconcile::return_devices))
        .route("/reconcile", get(reconcile::last).post(reconcile::again))
        .route("/events", get(events::stream))
        .route("/devices", get(devices::list).post(devices::create))
        .route("/devices/available", get(devices::available))
        .route("/devices/{key}", get(devices::show).delete(devices::delete))
        .route("/devices/{key}/clear", post(devices::clear))
        .route("/devices/{key}/bind", post(devices::bind))
        .route("/devices/{key}/unbind", post(devices::unbind))
        .route("/devices/{key}/reset", post(devices::reset))
        .route("/images", get(images::list).post(images::import).delete(images::prune))
        .route(
            "/images/{*name}",
            get(images::show).delete(images::delete).post(images::make).patch(images::resize),
        )
        .route("/volumes", get(volumes::list).post(volumes::create))
        .route("/volumes/from-archive", post(volumes::create_from_archive))
        .route("/volumes/{key}", get(volumes::show).delete(volumes::delete).patch(volumes::resize))
        .route("/instances", get(instances::list).post(instances::create))
        .nest("/instances/{key}", instance())
        .route_layer(from_fn(parameters::expect_known))
        .route_layer(from_fn_with_state(face.clone(), starting::hold))
        .merge(not_offered::routes())
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(face)
}
