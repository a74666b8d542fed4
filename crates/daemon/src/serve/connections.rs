//! Connections: their number, their timeouts, and which one is closed first.
//!
//! A connection is a stranger until a request on it was admitted. Only some of the connections may be strangers, and a
//! new one closes the oldest: clients that connect and send nothing cannot keep others out.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::socket::Socket;
use crate::rest::guard::{Admitted, Peer};

/// The most TCP connections that may be strangers.
const MOST_BY_TCP: usize = 64;

/// The most connections on the unix socket that may be strangers.
const MOST_BY_SOCKET: usize = 768;

/// How long to wait after a connection could not be accepted, usually because file descriptors are used up.
const AGAIN: Duration = Duration::from_millis(200);

/// How often to check whether a client has disconnected.
const RECHECK: Duration = Duration::from_secs(1);

/// How long a connection may be idle, and how long the headers of a request may take.
const HEADERS: Duration = Duration::from_secs(30);

/// Raises the limit of open files to the hard limit. Child processes inherit it.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// An accepted connection: its stream, its peer, and its place among the strangers.
type Accepted<S> = io::Result<(S, Peer, Arc<Place>)>;

/// A listener.
pub trait Listener: Send + 'static {
    /// Its connections.
    type Stream: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static;

    /// How many connections there may be; more wait in the kernel's queue.
    const MOST: usize;

    /// The next connection. It can be dropped and asked again.
    fn accept(&self) -> impl Future<Output = Accepted<Self::Stream>> + Send;
}

/// The unix socket.
pub struct Local {
    socket: Arc<Socket>,
    strangers: Strangers,
}

impl Local {
    pub const fn new(socket: Arc<Socket>) -> Self {
        Self { socket, strangers: Strangers::new(MOST_BY_SOCKET) }
    }
}

impl Listener for Local {
    type Stream = UnixStream;

    // Followers of logs and events have one each.
    const MOST: usize = 1024;

    async fn accept(&self) -> Accepted<UnixStream> {
        let stream = self.socket.accept().await?;
        let peer = stream.peer_cred().map_or(Peer::Unknown, |credentials| Peer::Process {
            uid: credentials.uid(),
            pid: credentials.pid(),
        });
        Ok((stream, peer, self.strangers.let_in()))
    }
}

/// A TCP listener, which requires a token.
pub struct Network {
    listener: TcpListener,
    strangers: Strangers,
}

impl Network {
    pub const fn new(listener: TcpListener) -> Self {
        Self { listener, strangers: Strangers::new(MOST_BY_TCP) }
    }
}

impl Listener for Network {
    type Stream = TcpStream;

    const MOST: usize = 256;

    async fn accept(&self) -> Accepted<TcpStream> {
        let (stream, address) = self.listener.accept().await?;
        Ok((stream, Peer::Network(address), self.strangers.let_in()))
    }
}

/// Serves until the daemon stops and open requests have ended.
pub async fn serve<L: Listener>(listener: L, app: Router, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(L::MOST));
    let mut connections = JoinSet::new();
    loop {
        // Fails only if the semaphore is closed, which never happens.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        match accepted {
            Ok((stream, peer, stranger)) => {
                let served = connection(stream, peer, stranger, app.clone(), stopping.clone());
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
                // A burst of connections must not push out one that was not read yet.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AGAIN).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    // One that panicked must not end the others.
    while connections.join_next().await.is_some() {}
}

/// Serves one connection to its end.
async fn connection<S>(
    stream: S,
    peer: Peer,
    place: Arc<Place>,
    app: Router,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
{
    // Another descriptor of the same connection, because hyper owns the stream.
    let watched = stream.as_fd().try_clone_to_owned();
    let app = TowerToHyperService::new(app);
    let admitted = place.admitted.clone();
    let app = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        request.extensions_mut().insert(admitted.clone());
        app.call(request)
    });
    let mut http = http1::Builder::new();
    // A client may close its sending side after a complete request, and still wait for the answer.
    http.half_close(true).timer(TokioTimer::new()).header_read_timeout(HEADERS);
    // Upgraded connections, of consoles, are served by tasks of their own.
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), app).with_upgrades());
    let mut ending = false;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection failed");
                }
                return;
            }
            _ = stopping.wait_for(|stopping| *stopping), if !ending => {
                ending = true;
                // Hyper waits for the rest of a request that was begun.
                if !place.admitted.is_admitted() {
                    return;
                }
                served.as_mut().graceful_shutdown();
            }
            () = gone(watched.as_ref().ok()) => return,
            () = place.sent_away.notified() => {
                if place.admitted.is_admitted() {
                    continue;
                }
                debug!("closed a connection without an admitted request to accept a new one");
                return;
            }
        }
    }
}

/// Waits until the client has closed both directions. A client that has closed only its sending side still waits for the
/// answer; hyper cannot distinguish the two. On TCP the kernel notices only after something was sent.
async fn gone(connection: Option<&OwnedFd>) {
    let Some(connection) = connection else { return std::future::pending().await };
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        tokio::time::sleep(RECHECK).await;
        let mut polled = [PollFd::new(connection, PollFlags::empty())];
        let hung_up = poll(&mut polled, Some(&at_once)).is_ok()
            && polled.iter().any(|polled| polled.revents().contains(PollFlags::HUP));
        if hung_up {
            return;
        }
    }
}

/// The connections of a listener on which no request was admitted yet, oldest first.
struct Strangers {
    most: usize,
    all: Mutex<VecDeque<Arc<Place>>>,
}

/// The place of a stranger, until a request on its connection is admitted.
#[derive(Default)]
pub struct Place {
    admitted: Admitted,
    sent_away: Notify,
}

impl Strangers {
    const fn new(most: usize) -> Self {
        Self { most, all: Mutex::new(VecDeque::new()) }
    }

    /// A place for a new connection; closes the oldest one if all places are taken.
    fn let_in(&self) -> Arc<Place> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // A place that only this list refers to belongs to a closed connection.
        all.retain(|place| !place.admitted.is_admitted() && Arc::strong_count(place) > 1);
        if all.len() >= self.most
            && let Some(oldest) = all.pop_front()
        {
            oldest.sent_away.notify_one();
        }
        let place = Arc::<Place>::default();
        all.push_back(place.clone());
        place
    }
}
