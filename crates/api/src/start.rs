//! How an instance is started.

use serde::{Deserialize, Serialize};

/// Options of starting an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct StartInstance {
    /// Command: container images only, which are not implemented.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 0))]
    pub cmd: Option<Vec<String>>,
    /// Entry point: container images only, which are not implemented.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 0))]
    pub entrypoint: Option<Vec<String>>,
}
