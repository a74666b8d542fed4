//! `handover serve`: opens the engine, listens, recovers, and serves; machines keep running when it ends.

mod connections;
mod notify;
mod reload;
mod secret;
mod socket;
mod starting;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use engine::{Config, Engine};
use model::{Code, Host, HostMonitor, Launcher, Refusal, Scan};
use service::cdi::Folder;
use service::{Boundaries, EngineSetup};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use socket::Socket;

use crate::hardware::{self, Hardware};
use crate::rest::guard::{Guard, Network, Token, check};
use crate::rest::read_ahead::read_ahead;
use crate::rest::{Face, Gate, discard_leftovers, router};
use starting::Starting;

/// How long open requests may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// How long a change waits for the end of recovery before it is refused. Clients usually wait 60 s for an answer, and
/// hypeman's retry a 503 twice: their three requests cover the 90 s that recovery waits for a stuck step.
pub const HOLD_CHANGES: Duration = Duration::from_secs(30);

/// The stack size of threads that call the engine.
const STACK: usize = 1 << 20;

/// How many threads call the engine at the same time; more requests wait.
const MOST_THREADS: usize = 128;

/// Options of the listeners.
#[derive(Clone, Debug)]
pub struct Options {
    /// The unix socket.
    pub socket: PathBuf,
    /// The TCP address to listen on, if any.
    pub listen: Option<SocketAddr>,
    /// The file with the token for TCP.
    pub token_file: Option<PathBuf>,
    /// The devices file, whose names requests can use.
    pub devices_file: Option<PathBuf>,
    /// Whether TCP needs no token (loopback only).
    pub no_auth: bool,
    /// Accepted host names besides `localhost` and the address.
    pub host_names: Vec<String>,
    /// The directory of CDI specs of claims; `None` writes none.
    pub cdi: Option<Folder>,
    /// How long a change waits for the end of recovery; usually [`HOLD_CHANGES`].
    pub hold_changes: Duration,
}

/// The parts of a daemon.
pub struct Daemon {
    /// Options of the listeners.
    pub options: Options,
    /// State directory and limits of the engine.
    pub config: Config,
    /// The host.
    pub host: Arc<dyn Host>,
    /// The launchers of machines.
    pub launchers: Vec<Arc<dyn Launcher>>,
    /// Uevent monitoring of the host. Without it the host is rescanned for each request, and no changes are published.
    pub monitor: Option<Arc<dyn HostMonitor>>,
    /// The same host, for full scans.
    pub scan: Arc<dyn Scan>,
}

/// Serves until SIGTERM or SIGINT. Machines keep running.
///
/// # Errors
/// The options conflict, the engine's state is unusable, or the daemon cannot listen.
pub fn run(daemon: Daemon) -> Result<(), Refusal> {
    let Daemon { options, config, host, launchers, monitor, scan } = daemon;
    let network = network(&options)?;
    connections::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .max_blocking_threads(MOST_THREADS)
        .build()
        .map_err(|error| cannot("start", &error))?;
    // Before anything that takes time: without a handler the signal ends the process.
    let hangup = {
        let _entered = runtime.enter();
        signal(SignalKind::hangup()).map_err(|error| cannot("watch signals", &error))?
    };
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
    let opened = setup.open_unrecovered()?;
    let engine = opened.engine().clone();
    if let Some(file) = &options.devices_file {
        reload::devices_file(&engine, file)?;
    }
    discard_leftovers(&engine.images().staging_dir());

    let (stop, stopping) = watch::channel(false);
    let hardware = monitor.map(Hardware::follow);
    if let Some(hardware) = &hardware {
        runtime.spawn(hardware::log(hardware.changes(), engine.clone()));
    }
    let leases = Arc::new(tokio::sync::Notify::new());
    let changes = hardware.as_ref().map(Hardware::changes);
    let (starting, started) = Starting::new(opened, leases.clone(), changes);
    let gate = Gate { started, hold: options.hold_changes };
    let running = stopping.clone();
    let app = router(Face::new(engine.clone(), events, hardware, scan, leases, gate, running));
    let serving = Serving { engine, starting, hangup, stop, stopping };
    let served = runtime.block_on(serve(&options, network, app, serving));
    // Open operations are undone while there is time. A call that still blocks must not delay the end: recovery handles
    // it at the next start.
    runtime.shutdown_background();
    served
}

/// The guard of TCP; `None` without a TCP listener.
fn network(options: &Options) -> Result<Option<Network>, Refusal> {
    let Some(address) = options.listen else { return Ok(None) };
    let token = match (&options.token_file, options.no_auth) {
        (Some(file), false) => Some(Token::new(secret::read(file)?)),
        (None, true) if address.ip().is_loopback() => {
            warn!("--no-auth: every user of this host can hand devices over at {address}");
            None
        }
        (None, true) => {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!("--no-auth is for loopback only, but {address} is not a loopback address"),
                "listen on 127.0.0.1, or create a token with `(umask 077; head -c 32 /dev/urandom | base64 > FILE)` and use --token-file FILE",
            ));
        }
        (Some(_), true) => {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "--token-file and --no-auth exclude each other",
                "omit one of them",
            ));
        }
        (None, false) => {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "--listen needs a token: access to this daemon is equivalent to root",
                "create one with `(umask 077; head -c 32 /dev/urandom | base64 > FILE)` and use --token-file FILE",
            ));
        }
    };
    if !address.ip().is_loopback() {
        warn!("{address} is plain HTTP: the token is sent unencrypted; put a TLS proxy in front");
    }
    let names = options.host_names.clone();
    Ok(Some(Network { token, address: address.ip(), names }))
}

/// What serving needs besides the routes.
struct Serving {
    engine: Engine,
    starting: Starting,
    hangup: Signal,
    stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
}

async fn serve(
    options: &Options,
    network: Option<Network>,
    app: Router,
    serving: Serving,
) -> Result<(), Refusal> {
    let Serving { engine, starting, hangup, stop, stopping } = serving;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| cannot("watch signals", &e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| cannot("watch signals", &e))?;
    let token = network.as_ref().and_then(|network| network.token.clone());
    tokio::spawn(reload::at_hangup(hangup, engine.clone(), options.clone(), token));
    let unix = Socket::bind(&options.socket)?;
    let served = listen(options, Arc::clone(&unix), network, app, stopping).await?;

    // A recovery that is interrupted is continued by the next start.
    let ended = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        refusal = starting.failed() => Err(refusal),
    };
    info!("stopping; machines keep running");
    notify::send("STOPPING=1");
    unix.remove();
    engine.cancel_all();
    // Cannot fail: the tasks hold receivers.
    let _ = stop.send(true);
    if tokio::time::timeout(GRACE, served.join_all()).await.is_err() {
        warn!(
            "timed out while waiting for open requests; the next start finishes or undoes their operations"
        );
    }
    ended
}

/// Serves on all listeners, until `stopping` becomes true.
async fn listen(
    options: &Options,
    unix: Arc<Socket>,
    network: Option<Network>,
    app: Router,
    stopping: watch::Receiver<bool>,
) -> Result<JoinSet<()>, Refusal> {
    let tcp = match (options.listen, network) {
        (Some(address), Some(network)) => {
            let listener = TcpListener::bind(address).await.map_err(|e| taken(address, &e))?;
            Some((listener, network))
        }
        _ => None,
    };
    info!("listening on {}", options.socket.display());
    let mut served = JoinSet::new();
    let by_socket = guarded(app.clone(), Guard::Socket);
    let local = connections::Local::new(unix);
    served.spawn(connections::serve(local, by_socket, stopping.clone()));
    if let Some((listener, network)) = tcp {
        if let Ok(address) = listener.local_addr() {
            info!("listening on http://{address}");
        }
        let by_tcp = guarded(app, Guard::Network(Arc::new(network)));
        served.spawn(connections::serve(connections::Network::new(listener), by_tcp, stopping));
    }
    Ok(served)
}

/// The routes behind the guard of a listener.
fn guarded(app: Router, guard: Guard) -> Router {
    app.layer(from_fn_with_state(guard, check)).layer(from_fn(read_ahead))
}

fn cannot(what: &str, error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("the daemon cannot {what}: {error}"),
        "check the host's limits and its log: journalctl -b",
    )
}

fn taken(address: SocketAddr, error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!("the daemon cannot listen on {address}: {error}"),
        format!("choose another port, or find its user: ss -ltnp 'sport = :{}'", address.port()),
    )
}
