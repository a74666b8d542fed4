//! How a pull is made.

use std::path::PathBuf;
use std::time::Duration;

/// How a pull is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// The name and the password for the registry.
    pub credentials: Option<(String, String)>,
    /// Registries that are spoken to without TLS.
    pub plain_http: Vec<String>,
    /// The file with mirrors, in place of the host's registries.conf(5).
    pub registries_conf: Option<PathBuf>,
    /// How long the next bytes are waited for; 30 s by default.
    pub stalled: Option<Duration>,
}
