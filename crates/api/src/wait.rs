//! Waiting for a state of an instance.

use serde::{Deserialize, Serialize};

/// The answer of `GET /instances/{id}/wait`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitOutcome {
    /// The state when the wait ended.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::InstanceState))]
    pub state: String,
    /// What went wrong, if anything.
    pub state_error: Option<String>,
    /// Whether the wait timed out before the state was reached.
    pub timed_out: bool,
}
