//! How an instance is started.

use serde::{Deserialize, Serialize};

/// Options of starting an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct StartInstance {
    /// Command from now on, in place of the earlier one, for an instance of a container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::Word>>, max_items = 1024))]
    pub cmd: Option<Vec<String>>,
    /// Entry point from now on, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::schema::Word>>, max_items = 1024))]
    pub entrypoint: Option<Vec<String>>,
}
