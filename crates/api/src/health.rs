//! Whether the daemon serves.

use serde::{Deserialize, Serialize};

/// The answer of `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// Whether the daemon serves everything.
    pub status: HealthStatus,
    /// While `starting`: interrupted operations that are not recovered yet. Over TCP only with the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovering: Vec<Recovering>,
}

/// Whether the daemon serves everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It does.
    Ok,
    /// It recovers interrupted operations. It answers `GET`; other calls wait.
    Starting,
}

/// An interrupted operation that is not recovered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recovering {
    /// Kind of the operation, such as `release`.
    pub operation: String,
    /// What it changes: the owner of a claim, the name of an instance, or PCI addresses.
    pub of: String,
    /// PCI addresses of the functions that it touches.
    pub devices: Vec<String>,
    /// The last step that did not succeed: the operation was interrupted in it, or it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// How far its recovery is.
    pub state: RecoveringState,
    /// All of this in one sentence.
    pub text: String,
}

/// How far the recovery of an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RecoveringState {
    /// It waits for operations on the same devices.
    Queued,
    /// It is performed now.
    Running,
    /// It waits for a step that still runs in the kernel, for at most 90 s.
    Stuck,
}
