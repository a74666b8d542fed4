//! How a pull is made.

use std::time::Duration;

/// How a pull is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// The name and the password for the registry.
    pub credentials: Option<(String, String)>,
    /// Registries that are spoken to without TLS.
    pub plain_http: Vec<String>,
    /// How long the next bytes are waited for; 30 s by default.
    pub stalled: Option<Duration>,
}
