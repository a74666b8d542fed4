//! Refuses parameters of a query that the call does not have, as the document lists them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
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
