//! Parameters in a request's path and query.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::Problem;

/// The id or name in the path, decoded.
pub struct Key(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let unreadable = || Problem::invalid("invalid path", "encode names as UTF-8");
        let values =
            RawPathParams::from_request_parts(parts, state).await.map_err(|_| unreadable())?;
        let first = values.iter().next().map(|(_, value)| value.to_owned());
        first.map(Self).ok_or_else(unreadable)
    }
}

/// The query of a request.
pub struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Query {
    /// The value of a parameter, if present and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// A boolean parameter; false if absent.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => {
                Err(Problem::invalid(format!("invalid {name} {other:?}"), "use true or false"))
            }
        }
    }

    /// The tags in the query, as `tags[key]=value`.
    pub fn tags(&self) -> api::Tags {
        let label = |key: &str| Some(key.strip_prefix("tags[")?.strip_suffix(']')?.to_owned());
        self.0.iter().filter_map(|(key, value)| Some((label(key)?, value.clone()))).collect()
    }
}
