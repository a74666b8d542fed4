//! Parameters in a request's path and query.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::{Problem, openapi};

/// The parameters of each call, by path and method, as its document lists them.
static KNOWN: LazyLock<BTreeMap<(String, String), Vec<String>>> = LazyLock::new(known);

fn known() -> BTreeMap<(String, String), Vec<String>> {
    let mut known = BTreeMap::new();
    let paths = openapi::document().get("paths").and_then(Value::as_object);
    for (path, methods) in paths.into_iter().flatten() {
        for (method, call) in methods.as_object().into_iter().flatten() {
            let parameters = call.get("parameters").and_then(Value::as_array);
            let in_query = parameters
                .into_iter()
                .flatten()
                .filter(|one| one.get("in").is_some_and(|place| place == "query"));
            let names = in_query.filter_map(|one| Some(one.get("name")?.as_str()?.to_owned()));
            known.insert((path.clone(), method.to_uppercase()), names.collect());
        }
    }
    known
}

/// The middleware: refuses parameters that the call does not have. Ignoring one would do something else than what was
/// meant.
pub async fn expect_known(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let path = path.unwrap_or_default().trim_end_matches('/').replace("{*", "{");
    let method = match request.method() {
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    let Some(names) = KNOWN.get(&(path, method.as_str().to_owned())) else {
        return next.run(request).await;
    };
    let query = request.uri().query().unwrap_or_default();
    let unknown = form_urlencoded::parse(query.as_bytes()).map(|(key, _)| key).find(|key| {
        // `tags[team]` is one of `tags`.
        let name = key.split('[').next().unwrap_or_default();
        !names.iter().any(|known| known == key || (known == "tags" && name == "tags"))
    });
    let Some(unknown) = unknown else { return next.run(request).await };
    let unknown: String = unknown.chars().take(100).collect();
    let remedy = match names.as_slice() {
        [] => "this call has no parameters: omit it".to_owned(),
        names => format!("use {}", names.join(", ")),
    };
    Problem::invalid(format!("unknown parameter `{unknown}`"), remedy).into_response()
}

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
    /// The value of a parameter, if present. A parameter that is given twice, or without a value, is refused: ignoring
    /// `dry_run=` would claim devices.
    pub fn get(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values =
            self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(""), None) => Err(Problem::invalid(
                format!("the parameter `{name}` has no value"),
                "give it a value or omit it",
            )),
            (Some(value), None) => Ok(Some(value)),
            (Some(_), Some(_)) => Err(Problem::invalid(
                format!("the parameter `{name}` is given more than once"),
                "give it once",
            )),
        }
    }

    /// A boolean parameter; false if absent.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name)? {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => {
                Err(Problem::invalid(format!("invalid {name} {other:?}"), "use true or false"))
            }
        }
    }

    /// The tags in the query, as `tags[key]=value`.
    pub fn tags(&self) -> Result<api::Tags, Problem> {
        let ours = self.0.iter().filter_map(|(key, value)| {
            let rest = key.strip_prefix("tags")?;
            (rest.is_empty() || rest.starts_with('[')).then_some((rest, value))
        });
        let tag = |(rest, value): (&str, &String)| {
            let label = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match label {
                Some(label) => Ok((label.to_owned(), value.clone())),
                None => Err(Problem::invalid(
                    format!("invalid parameter `tags{rest}`"),
                    "write each tag as tags[key]=value",
                )),
            }
        };
        ours.map(tag).collect()
    }
}
