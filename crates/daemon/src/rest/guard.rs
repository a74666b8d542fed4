//! Authentication: the middleware of each listener.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::Code;
use subtle::ConstantTimeEq;
use tracing::info;

use super::Problem;

/// The peer of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A process on this host, as reported by the kernel.
    Process {
        /// Its user.
        uid: u32,
        /// Its process id, if the kernel reports it.
        pid: Option<i32>,
    },
    /// A TCP client.
    Network(SocketAddr),
    /// Not reported by the kernel.
    Unknown,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Self::Process { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Network(address) => write!(f, "{address}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Whether a request was admitted on a connection.
#[derive(Clone, Debug, Default)]
pub struct Admitted(Arc<AtomicBool>);

impl Admitted {
    /// Whether one was.
    pub fn is_admitted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn admit(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Marks a request that may see everything: it has the token, or needs none.
#[derive(Clone, Copy, Debug)]
pub struct Authorized;

/// Answers without a token.
const HEALTH: &str = "/health";

/// What a listener requires of requests.
#[derive(Clone)]
pub enum Guard {
    /// A unix socket: its file mode is the access control.
    Socket,
    /// TCP.
    Network(Arc<Network>),
}

/// The token, which can be replaced while the daemon serves.
#[derive(Clone)]
pub struct Token(Arc<RwLock<String>>);

impl Token {
    /// This token.
    pub fn new(token: String) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    /// Replaces it: from now on, requests need the new one.
    pub fn replace(&self, token: String) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn is(&self, given: &[u8]) -> bool {
        let token = self.0.read().unwrap_or_else(PoisonError::into_inner);
        given.ct_eq(token.as_bytes()).into()
    }
}

/// What is required of requests over TCP.
pub struct Network {
    /// The token; `None` with `--no-auth`.
    pub token: Option<Token>,
    /// The address of the listener.
    pub address: IpAddr,
    /// Accepted host names besides `localhost`.
    pub names: Vec<String>,
}

/// The middleware: refuses unauthorized requests, and logs the peers of changes.
pub async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let peer = peer.map_or(Peer::Unknown, |ConnectInfo(peer)| peer.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match guard.admits(&request) {
        Ok(()) => {
            // Anyone may ask for the health.
            if let Some(admitted) = request.extensions().get::<Admitted>()
                && path != HEALTH
            {
                admitted.admit();
            }
            if guard.authorizes(&request) {
                request.extensions_mut().insert(Authorized);
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        info!(%method, path, %peer, status = response.status().as_u16(), "request");
    }
    response
}

impl Guard {
    /// Whether a request that was admitted may also see what needs the token.
    fn authorizes(&self, request: &Request) -> bool {
        match self {
            Self::Socket => true,
            Self::Network(network) => network.check_token(request.headers()).is_ok(),
        }
    }

    fn admits(&self, request: &Request) -> Result<(), Problem> {
        let Self::Network(network) = self else { return Ok(()) };
        network.refuse_web_pages(request)?;
        // Health needs no token, so that monitors work as with hypeman.
        if request.uri().path() == HEALTH {
            return Ok(());
        }
        network.check_token(request.headers())
    }
}

impl Network {
    /// Refuses requests of web pages: a browser sends an `Origin` or, after DNS rebinding, a foreign name as `Host`.
    fn refuse_web_pages(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        if headers.contains_key(header::ORIGIN) {
            return Err(Problem::new(
                Code::Forbidden,
                "requests with an Origin header are refused: they come from web pages",
                "use curl or `handover` instead of a browser",
            ));
        }
        let mut hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().ok());
        let host = match (hosts.next(), hosts.next()) {
            (Some(Some(host)), None) => host,
            _ => "",
        };
        let target = request.uri().authority().map(|authority| authority.as_str());
        if [Some(host), target].into_iter().flatten().all(|name| self.is_ours(name)) {
            return Ok(());
        }
        let host: String = host.chars().take(200).collect();
        Err(Problem::new(
            Code::Forbidden,
            format!("unknown Host {host:?}"),
            "use the daemon's address or localhost, or start it with --host-name NAME",
        ))
    }

    /// Whether a `Host` names this daemon. The port is ignored: it differs behind port forwarding.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        if let Ok(address) = name.parse::<IpAddr>() {
            // An address cannot be rebound: a page from there has it as its Origin.
            return address.is_loopback()
                || address == self.address
                || self.address.is_unspecified();
        }
        let known = self.names.iter().map(String::as_str).chain(["localhost"]);
        known.into_iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let Some(given) = given.and_then(bearer) else {
            return Err(Problem::new(Code::Unauthorized, "the request has no token", NEED_TOKEN));
        };
        if token.is(given) {
            return Ok(());
        }
        Err(Problem::new(Code::Unauthorized, "the token is wrong", NEED_TOKEN))
    }
}

/// What a client without the right token does.
const NEED_TOKEN: &str = "use the token in the file that the daemon was started with (`handover serve --token-file FILE`): \
    with `handover`, give a copy of that file with --token-file or HANDOVER_TOKEN_FILE; with other clients, send \
    `Authorization: Bearer TOKEN`";

/// The token of an `Authorization` header; the scheme is case-insensitive.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        let network =
            Network { token: None, address: [127, 0, 0, 1].into(), names: vec!["hv1".into()] };
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:80", "HV1:8080"] {
            assert!(network.is_ours(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.nip.io:80"]
        {
            assert!(!network.is_ours(host), "{host}");
        }
    }

    #[test]
    fn a_token_after_its_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
