//! `handover serve`: opens the engine, recovers, listens, and ends without disturbing a machine.

mod connections;
mod notify;
mod secret;
mod socket;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use engine::{Config, Engine, RecoveryReport};
use model::{Code, Examining, Following, Host, Launcher, Refusal};
use service::cdi::Folder;
use service::{Boundaries, EngineSetup};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::hardware::{self, Hardware};
use crate::rest::guard::{Guard, Network, check};
use crate::rest::read_ahead::read_ahead;
use crate::rest::{Face, discard_leftovers, router};

/// How long requests that are being served may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// The stack of a thread that works for the engine.
const STACK: usize = 1 << 20;

/// How many threads work for the engine at the same time; more requests wait.
const MOST_THREADS: usize = 128;

/// How the daemon is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The unix socket.
    pub socket: PathBuf,
    /// An address to listen on by TCP, too.
    pub listen: Option<SocketAddr>,
    /// The file with the token for TCP.
    pub token_file: Option<PathBuf>,
    /// Whether TCP needs no token: on loopback only.
    pub no_auth: bool,
    /// Names by which the host may be called, beside `localhost` and its address.
    pub host_names: Vec<String>,
    /// Where container tools are told of claims; nowhere, where there is none.
    pub cdi: Option<Folder>,
}

/// What a daemon is put together of.
pub struct Daemon {
    /// How it is served.
    pub options: Options,
    /// Where the engine's state is, and its limits.
    pub config: Config,
    /// The host that the engine works on.
    pub host: Arc<dyn Host>,
    /// What starts machines.
    pub launchers: Vec<Arc<dyn Launcher>>,
    /// The host's hardware as the kernel tells of it. Without it the host is read for each request, and nobody is told when
    /// its devices change.
    pub following: Option<Arc<dyn Following>>,
    /// The same host, for those who look at it closely.
    pub examined: Arc<dyn Examining>,
}

/// Serves until SIGTERM or SIGINT. Machines go on running.
///
/// # Errors
/// Where the options contradict each other, the engine's state cannot be used, or nothing can be listened on.
pub fn run(daemon: Daemon) -> Result<(), Refusal> {
    let Daemon { options, config, host, launchers, following, examined } = daemon;
    let network = network(&options)?;
    connections::raise_open_files();
    let boundaries = Arc::new(Boundaries::from_environment());
    let events = boundaries.events();
    let setup = EngineSetup {
        config,
        host,
        launchers,
        cdi: options.cdi.clone(),
        observer: boundaries,
        warn: |text| warn!("{text}"),
    };
    let engine = setup.open(tell)?;
    discard_leftovers(&engine.images().staging_dir());

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .max_blocking_threads(MOST_THREADS)
        .build()
        .map_err(|error| cannot("start", &error))?;
    let (stop, stopping) = watch::channel(false);
    let hardware = following.map(Hardware::follow);
    if let Some(hardware) = &hardware {
        runtime.spawn(hardware::log(hardware.changes(), engine.clone()));
    }
    let leases = Arc::new(tokio::sync::Notify::new());
    runtime.spawn(crate::leases::watch(engine.clone(), leases.clone()));
    let told = hardware.as_ref().map(Hardware::changes);
    runtime.spawn(crate::maintenance::watch(engine.clone(), told));
    let app =
        router(Face::new(engine.clone(), events, hardware, examined, leases, stopping.clone()));
    let served = runtime.block_on(serve(&options, network, app, &engine, stop, stopping));
    // What is half-way is undone while there is time. A question that still blocks must not hold up the end: the journal
    // finishes it at the next start.
    runtime.shutdown_background();
    served
}

/// What TCP asks for; `None` where it is not listened on.
fn network(options: &Options) -> Result<Option<Network>, Refusal> {
    let Some(address) = options.listen else { return Ok(None) };
    let token = match (&options.token_file, options.no_auth) {
        (Some(file), false) => Some(secret::read(file)?),
        (None, true) if address.ip().is_loopback() => {
            warn!("--no-auth: everybody on this host can hand its devices over at {address}");
            None
        }
        (None, true) => {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!(
                    "--no-auth is for loopback only, and {address} can be reached from outside"
                ),
                "listen on 127.0.0.1, or make a token: (umask 077; head -c 32 /dev/urandom | base64 > FILE), and give --token-file FILE",
            ));
        }
        (Some(_), true) => {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "--token-file and --no-auth exclude each other",
                "leave one of them out",
            ));
        }
        (None, false) => {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "--listen needs a token: who can ask this daemon is as good as root",
                "make one: (umask 077; head -c 32 /dev/urandom | base64 > FILE), and give --token-file FILE",
            ));
        }
    };
    if !address.ip().is_loopback() {
        warn!("{address} is plain HTTP: who listens on the wire learns the token");
    }
    let names = options.host_names.clone();
    Ok(Some(Network { token, address: address.ip(), names }))
}

fn tell(report: &RecoveryReport) {
    for operation in &report.finished {
        info!("recovered, finished: {operation}");
    }
    for operation in &report.undone {
        info!("recovered, undone: {operation}");
    }
    for id in &report.adopted {
        info!(instance = %id, "found running, managed again");
    }
    for note in &report.notes {
        warn!("recovery: {note}");
    }
}

async fn serve(
    options: &Options,
    network: Option<Network>,
    app: Router,
    engine: &Engine,
    stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
) -> Result<(), Refusal> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| cannot("watch signals", &e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| cannot("watch signals", &e))?;
    let tcp = match (options.listen, network) {
        (Some(address), Some(network)) => {
            let listener = TcpListener::bind(address).await.map_err(|e| taken(address, &e))?;
            Some((listener, network))
        }
        _ => None,
    };
    let unix = socket::bind(&options.socket)?;
    info!("listening on {}", options.socket.display());
    let mut served = tokio::task::JoinSet::new();
    let by_socket = guarded(app.clone(), Guard::Socket);
    served.spawn(connections::serve(unix, by_socket, stopping.clone()));
    if let Some((listener, network)) = tcp {
        if let Ok(address) = listener.local_addr() {
            info!("listening on http://{address}");
        }
        let by_tcp = guarded(app, Guard::Network(Arc::new(network)));
        served.spawn(connections::serve(connections::Network::new(listener), by_tcp, stopping));
    }
    notify::tell("READY=1");

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    info!("ending; machines go on running");
    notify::tell("STOPPING=1");
    socket::remove(&options.socket);
    engine.cancel_all();
    // The receivers live in the tasks: it cannot fail while they do.
    let _ = stop.send(true);
    if tokio::time::timeout(GRACE, served.join_all()).await.is_err() {
        warn!("not everything ended in time; the next start finishes or undoes what was begun");
    }
    Ok(())
}

/// The routes behind what a listener asks of requests.
fn guarded(app: Router, guard: Guard) -> Router {
    app.layer(from_fn_with_state(guard, check)).layer(from_fn(read_ahead))
}

fn cannot(what: &str, error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("the daemon cannot {what}: {error}"),
        "look at the host's limits and its log: journalctl -b",
    )
}

fn taken(address: SocketAddr, error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!("the daemon cannot listen on {address}: {error}"),
        format!("choose another port, or see who has it: ss -ltnp 'sport = :{}'", address.port()),
    )
}
