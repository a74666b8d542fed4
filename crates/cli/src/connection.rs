//! How to reach the daemon.

use std::future::Future;
use std::io::ErrorKind;
use std::path::PathBuf;

use api::client::{Client, Endpoint};
use clap::Args;
use model::{Code, Refusal};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

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

    /// Whether the URL is the default one, and no process listens there. Waits for a daemon that is about to listen.
    pub fn is_daemon_absent(&self) -> bool {
        self.is_silent() && opening::wait(|| !self.is_silent())
    }

    /// Whether the URL is the default one, and no process listens there now.
    fn is_silent(&self) -> bool {
        const ABSENT: [ErrorKind; 2] = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
        let socket = HERE.strip_prefix("unix://").filter(|_| self.url == HERE);
        let (Some(socket), Ok(runtime)) = (socket, runtime()) else { return false };
        // Not with `std`, which waits while the daemon accepts nothing.
        let connected = runtime.block_on(async { UnixStream::connect(socket).await });
        connected.is_err_and(|error| ABSENT.contains(&error.kind()))
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
        let client = self.client()?;
        // The error says what is wrong if there is none.
        let _ = self.is_daemon_absent();
        runtime()?.block_on(talk(client))
    }
}

fn runtime() -> Result<Runtime, Refusal> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Refusal::new(Code::Internal, error.to_string(), "check this process's limits (`ulimit -a`)")
    })
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
