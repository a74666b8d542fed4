//! Parameters in a request's path and query.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::Problem;

/// The id or name in the path, decoded.
pub struct Key(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut names = names_in_path(parts, state).await?.into_iter();
        names.next().map(Self).ok_or_else(unreadable)
    }
}

/// Two ids or names in the path, decoded.
pub struct Keys(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Keys {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut names = names_in_path(parts, state).await?.into_iter();
        match (names.next(), names.next()) {
            (Some(first), Some(second)) => Ok(Self(first, second)),
            _ => Err(unreadable()),
        }
    }
}

async fn names_in_path<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<Vec<String>, Problem> {
    let values = RawPathParams::from_request_parts(parts, state).await.map_err(|_| unreadable())?;
    Ok(values.iter().map(|(_, value)| value.to_owned()).collect())
}

fn unreadable() -> Problem {
    Problem::invalid("invalid path", "encode names as UTF-8")
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
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                Err(Problem::invalid(format!("invalid {name} {other:?}"), "use true or false"))
            }
        }
    }

    /// The tags in the query, as `tags[key]=value`. As other parameters, each is given once, with a key and a value.
    pub fn tags(&self) -> Result<api::Tags, Problem> {
        let mut tags = api::Tags::new();
        let ours = self.0.iter().filter_map(|(key, value)| {
            let rest = key.strip_prefix("tags")?;
            (rest.is_empty() || rest.starts_with('[')).then_some((rest, value))
        });
        for (rest, value) in ours {
            let label = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let wrong = match label.filter(|label| !label.is_empty()) {
                None => "is not written as tags[key]=value",
                Some(_) if value.is_empty() => "has no value",
                Some(label) => match tags.insert(label.to_owned(), value.clone()) {
                    None => continue,
                    Some(_) => "is given more than once",
                },
            };
            return Err(Problem::invalid(
                format!("the parameter `tags{rest}` {wrong}"),
                "write each tag once, as tags[key]=value",
            ));
        }
        Ok(tags)
    }
}
