//! How the daemon is reached.

use std::future::Future;
use std::path::PathBuf;

use api::client::{Client, Endpoint};
use clap::Args;
use model::{Code, Refusal};

use crate::Json;

/// Where this host's daemon is usually.
const HERE: &str = "unix:///run/handover/handover.sock";

/// Where the daemon is, and how its answers are printed
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Where the daemon is: unix:///PATH or http://HOST:PORT
    #[arg(
        long,
        global = true,
        help_heading = "The daemon",
        env = "HANDOVER_URL",
        hide_env_values = true,
        default_value = HERE
    )]
    url: String,

    /// The file with the token, for http
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
    /// Whether JSON is wanted.
    pub const fn json(&self) -> bool {
        self.output.json
    }

    /// Whether the daemon would be the one of this host, at its usual place.
    pub fn is_local(&self) -> bool {
        self.url == HERE
    }

    /// The client.
    pub fn client(&self) -> Result<Client, Refusal> {
        let endpoint: Endpoint = self.url.parse()?;
        let token = match &self.token_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                Refusal::new(
                    Code::InvalidRequest,
                    format!("the token file {} cannot be read: {error}", path.display()),
                    "give the file that the daemon was started with, or a copy of yours",
                )
            })?),
            None => None,
        };
        Ok(Client::new(endpoint, token.map(|token| token.trim().to_owned())))
    }

    /// Talks to the daemon.
    pub fn talk<T, F>(&self, talk: impl FnOnce(Client) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let client = self.client()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Refusal::new(Code::Internal, error.to_string(), "look at this process's limits")
        })?;
        runtime.block_on(talk(client))
    }
}

/// Reads `KEY=VALUE`.
pub fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it like KEY=VALUE".to_owned()),
    }
}

/// The query for labels: empty, or beginning with a question mark.
pub fn tag_query(tags: &[(String, String)]) -> String {
    let pair = |(key, value): &(String, String)| {
        let (key, value) = (api::client::query_value(key), api::client::query_value(value));
        format!("tags%5B{key}%5D={value}")
    };
    let pairs: Vec<String> = tags.iter().map(pair).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}
