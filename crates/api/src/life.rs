//! What starts a machine besides a request.

use serde::{Deserialize, Serialize};

/// Whether a machine is started again when it ends without a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RestartPolicy {
    /// `never` (the default), `on_failure` (if its VMM failed, or it is unknown how it ended), or `always` (also if the guest
    /// shut itself down).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::RestartWord>))]
    pub policy: Option<String>,
    /// The pause before the first attempt, 5s by default. It doubles with each further one, to 5 minutes at
    /// most, and is 1 second at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::Pause>))]
    pub backoff: Option<String>,
    /// The most attempts in a row; 0, the default, for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub max_attempts: Option<u32>,
    /// A machine that ran as long as this begins a new row of attempts; 10m by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::Pause>))]
    pub stable_after: Option<String>,
}

/// Whether, and when, a machine is started with the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Autostart {
    /// Whether it is; `true` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub enabled: Option<bool>,
    /// Machines of a lower number are started before those of a higher one, and stopped after them; 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub order: Option<u32>,
    /// The pause after its start, before the next machine is started; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::Pause>))]
    pub delay: Option<String>,
}

/// The attempts to start a machine again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RestartStatus {
    /// How many there were in a row.
    pub attempts: u32,
    /// Why there is none now: `manual_stop` or `max_attempts_exceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::RestartBlocked>))]
    pub blocked_reason: Option<String>,
    /// The last one (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, format = DateTime))]
    pub last_attempt_at: Option<String>,
    /// The next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, format = DateTime))]
    pub next_attempt_at: Option<String>,
}
