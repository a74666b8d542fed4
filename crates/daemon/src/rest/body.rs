//! JSON bodies.

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Problem;

/// The largest JSON body.
const LARGEST: usize = 4 << 20;

/// The highest number up to which each whole number is exact as a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// How much of a larger body is read and discarded: a client that is still sending would not see the refusal.
const PATIENCE: usize = 16 << 20;

/// A body that is read as JSON whatever its Content-Type: `curl -d` sends that of a form.
pub struct JsonBody(Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let mut stream = request.into_body().into_data_stream();
        let (mut body, mut received) = (BytesMut::new(), 0);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::invalid(format!("cannot read the body: {error}"), "retry")
            })?;
            received += chunk.len();
            if received <= LARGEST {
                body.extend_from_slice(&chunk);
            } else if received > PATIENCE {
                break;
            }
        }
        if received > LARGEST {
            let problem = Problem::invalid("the body is larger than 4 MiB", "send a smaller body");
            return Err(problem.with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(Self(body.freeze()))
    }
}

impl JsonBody {
    /// The body as a value; the default value without a body, or for `null`.
    pub fn read_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Ok(T::default());
        }
        self.read::<Option<T>>().map(Option::unwrap_or_default)
    }

    /// The same, with the unknown fields.
    pub fn read_noting_or_default<T>(&self) -> Result<(T, Vec<String>), Problem>
    where
        T: DeserializeOwned + Default,
    {
        if self.0.iter().all(u8::is_ascii_whitespace) || self.0.trim_ascii() == b"null" {
            return Ok((T::default(), Vec::new()));
        }
        self.read_noting()
    }

    /// Refuses a body with fields, for a call that has none.
    pub fn expect_no_fields(&self) -> Result<(), Problem> {
        #[derive(Default, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct NoFields {}
        self.read_or_default::<NoFields>().map(drop)
    }

    /// The body as a value. A type of our own interface refuses unknown fields.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.read_noting().map(|(value, _)| value)
    }

    /// The body as a value, with the names of unknown fields: clients of hypeman's interface may send more than we know.
    pub fn read_noting<T: DeserializeOwned>(&self) -> Result<(T, Vec<String>), Problem> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::invalid(
                "the request has no body",
                "send JSON as described by GET /openapi.json",
            ));
        }
        // A list would be read as the fields of the object, in order.
        if self.0.trim_ascii_start().first() == Some(&b'[') {
            return Err(Problem::invalid(
                "the JSON body is a list, not an object",
                "send JSON as described by GET /openapi.json",
            ));
        }
        let mut reader = serde_json::Deserializer::from_slice(&self.0);
        let mut unknown = Vec::new();
        let read = noting(&mut reader, &mut unknown).and_then(|read| reader.end().map(|()| read));
        match read {
            Ok(value) => Ok((value, unknown)),
            Err(error) => self.with_whole_numbers(&error).ok_or_else(|| {
                // A field that is missing may be there under a wrong name.
                let also = match unknown.as_slice() {
                    [] => String::new(),
                    [one] => format!("; the field `{one}` is not known"),
                    many => format!("; the fields `{}` are not known", many.join("`, `")),
                };
                Problem::invalid(
                    format!("invalid JSON body: {error}{also}"),
                    "send JSON as described by GET /openapi.json",
                )
            }),
        }
    }

    /// The body read again, if what failed is a whole number with a fraction: `2.0` is an integer in JSON Schema (2020-12
    /// validation, 6.1.1), and some clients write all numbers so.
    fn with_whole_numbers<T: DeserializeOwned>(
        &self,
        error: &serde_json::Error,
    ) -> Option<(T, Vec<String>)> {
        if !error.to_string().contains("invalid type: floating point") {
            return None;
        }
        let mut value = serde_json::from_slice(&self.0).ok()?;
        make_whole(&mut value);
        let mut unknown = Vec::new();
        let read = noting::<T, _>(value, &mut unknown).ok()?;
        Some((read, unknown))
    }
}

/// A value; the names of the fields that it does not have are added to `unknown`, also if it cannot be read.
fn noting<'de, T, D>(reader: D, unknown: &mut Vec<String>) -> Result<T, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    serde_ignored::deserialize(reader, |path| unknown.push(named(&path)))
}

/// The name of a field within its objects: `network.egress`.
fn named(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    let (parent, name) = match path {
        Path::Root => return String::new(),
        Path::Seq { parent, index } => (parent, index.to_string()),
        Path::Map { parent, key } => (parent, key.clone()),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => return named(parent),
    };
    match named(parent) {
        parent if parent.is_empty() => name,
        parent => format!("{parent}.{name}"),
    }
}

/// Writes numbers without a fraction as integers.
fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            // Whole, and small enough to be exact.
            let text = number
                .as_f64()
                .filter(|float| float.abs() <= EXACT)
                .map(|float| format!("{float}"));
            if let Some(whole) = text.and_then(|text| text.parse::<i64>().ok()) {
                *value = whole.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_may_have_a_fraction() {
        let read = |text: &'static str| JsonBody(text.into()).read::<api::SetVfs>();
        assert_eq!(read(r#"{"count": 4.0}"#).unwrap().count, 4);
        for wrong in [r#"{"count": 4.5}"#, r#"{"count": 65536.0}"#, r#"{"count": 1e300}"#, "[4]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_misspelt_field_is_named_with_the_one_that_is_missing() {
        let body = r#"{"pci_adress": "0000:01:00.0", "nme": "gpu"}"#;
        let read = JsonBody(body.into()).read_noting::<api::CreateDevice>();
        let said = format!("{:?}", read.unwrap_err());
        assert!(said.contains("missing field `pci_address`"), "{said}");
        assert!(said.contains("`pci_adress`, `nme` are not known"), "{said}");
    }

    #[test]
    fn unknown_fields_are_refused_or_noted() {
        let unknown = JsonBody(r#"{"count": 4, "counts": 5}"#.into()).read::<api::SetVfs>();
        assert!(format!("{:?}", unknown.unwrap_err()).contains("counts"));
        let body = r#"{"name": "a", "image": "b", "network": {"enabled": false, "x": 1}, "y": {"z": 1}, "vcpus": 2.0}"#;
        let (read, noted) = JsonBody(body.into()).read_noting::<api::CreateInstance>().unwrap();
        assert_eq!((read.vcpus, noted), (Some(2), vec!["network.x".into(), "y".into()]));
        for (body, right) in [("", true), ("{}", true), ("null", true), (r#"{"a": 1}"#, false)] {
            assert_eq!(JsonBody(body.into()).expect_no_fields().is_ok(), right, "{body}");
        }
    }
}
