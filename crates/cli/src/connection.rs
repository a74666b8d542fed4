//! How to reach the daemon.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;

use api::client::{Client, Endpoint};
use clap::Args;
use model::{Code, Refusal};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::{Json, opening, terminal};

/// The default URL of this host's daemon.
const HERE: &str = "unix:///run/handover/handover.sock";

/// The daemon's URL, and the output format
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// URL of the daemon: unix:///PATH or http://HOST:PORT
    #[arg(
        long,
        global = true,
        help_heading = "The daemon",
        env = "HANDOVER_URL",
        hide_env_values = true,
        default_value = HERE
    )]
    url: String,

    /// File with the daemon's token, or a copy of it; for http
    #[arg(
        long,
        global = true,
        help_heading = "The daemon",
        env = "HANDOVER_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    output: Json,
}

impl Connection {
    /// Whether to print JSON.
    pub const fn json(&self) -> bool {
        self.output.json
    }

    /// Whether the daemon is on this host: its ports are ours.
    pub fn is_local(&self) -> bool {
        let host =
            self.url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or(rest));
        host.is_none_or(|host| {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            let name = name.trim_start_matches('[').trim_end_matches(']');
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        })
    }

    /// Whether the URL is the default one, and no process listens there. Waits for a daemon that is about to listen.
    pub fn is_daemon_absent(&self) -> bool {
        self.is_silent() && opening::wait(|| !self.is_silent())
    }

    /// Whether the URL is the default one, and no process listens there now.
    fn is_silent(&self) -> bool {
        let socket = HERE.strip_prefix("unix://").filter(|_| self.url == HERE);
        socket.is_some_and(|path| matches!(reach(path), Err(Errno::NOENT | Errno::CONNREFUSED)))
    }

    /// A client for the URL and token.
    pub fn client(&self) -> Result<Client, Refusal> {
        let endpoint: Endpoint = self.url.parse()?;
        let token = match &self.token_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                Refusal::new(
                    Code::Unauthorized,
                    format!("cannot read the token file {}: {error}", path.display()),
                    "name the daemon's token file, or your copy of it, with --token-file or HANDOVER_TOKEN_FILE",
                )
            })?),
            None => None,
        };
        let client = Client::new(endpoint, token.map(|token| token.trim().to_owned()));
        Ok(client.waiting(|news| terminal::note(&format!("note: {news}"))))
    }

    /// Runs a conversation with the daemon to its end.
    pub fn talk<T, F>(&self, talk: impl FnOnce(Client) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        // The error says what is wrong if there is none.
        let _ = self.is_daemon_absent();
        self.talk_now(talk)
    }

    /// The same, without waiting for a daemon that is about to listen.
    pub fn talk_now<T, F>(&self, talk: impl FnOnce(Client) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let client = self.client()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            let remedy = "check this process's limits (`ulimit -a`)";
            Refusal::new(Code::Internal, error.to_string(), remedy)
        })?;
        runtime.block_on(talk(client))
    }
}

/// Whether a process listens on this socket. Never waits: `EAGAIN` says that one listens that accepts nothing now.
fn reach(path: &str) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Reads `KEY=VALUE`.
pub fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as team=ml".to_owned()),
    }
}

/// The query that selects these tags: empty, or starting with a question mark.
pub fn tag_query(tags: &[(String, String)]) -> String {
    let pair = |(key, value): &(String, String)| {
        let (key, value) = (api::client::query_value(key), api::client::query_value(value));
        format!("tags%5B{key}%5D={value}")
    };
    let pairs: Vec<String> = tags.iter().map(pair).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}
