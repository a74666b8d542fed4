//! One requested item of a claim, read strictly: an unknown field would change what is claimed.

use model::choose::Want;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// One requested item: as a string or as an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Wish {
    /// As a string.
    Words(String),
    /// As an object.
    Spelt(Want),
}

/// What an object requests: exactly one of these fields, each with the fields of its own object.
const KINDS: [(&str, Option<&[&str]>); 5] = [
    ("device", None),
    // Its reader knows the fields.
    ("any", Some(&[])),
    ("vf", Some(&["of", "settings"])),
    ("profile", Some(&["profile", "of", "attributes"])),
    ("mdev", None),
];

impl<'de> Deserialize<'de> for Wish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Words(text)),
            Value::Object(fields) => {
                check(&fields).map_err(D::Error::custom)?;
                let want = serde_json::from_value(Value::Object(fields));
                want.map(Self::Spelt).map_err(D::Error::custom)
            }
            _ => Err(D::Error::custom("a requested item is a string or an object")),
        }
    }
}

/// Checks the fields that the reader of [`Want`] would ignore.
fn check(fields: &Map<String, Value>) -> Result<(), String> {
    let mut kinds = fields.iter().filter(|(name, _)| *name != "count");
    let (Some((name, value)), None) = (kinds.next(), kinds.next()) else {
        return Err(
            "a requested item has `count` and one of `device`, `any`, `vf`, `profile`, `mdev`"
                .into(),
        );
    };
    let Some((_, own)) = KINDS.iter().find(|(kind, _)| kind == name) else {
        return Err(format!(
            "unknown kind of request {name:?}: use `device`, `any`, `vf`, `profile` or `mdev`"
        ));
    };
    let Some(own) = own else { return Ok(()) };
    let Value::Object(inner) = value else { return Err(format!("`{name}` is not an object")) };
    if !own.is_empty()
        && let Some(unknown) = inner.keys().find(|field| !own.contains(&field.as_str()))
    {
        return Err(format!("`{name}` has no field {unknown:?}: use {}", own.join(", ")));
    }
    match inner.get("settings") {
        Some(settings) if !settings.is_object() => Err("`settings` is not an object".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused() {
        for right in [
            r#""2xgpu""#,
            r#"{"count": 2, "any": {"kind": "gpu", "node": 0}}"#,
            r#"{"vf": {"of": "nic0", "settings": {"vlan": 7}}}"#,
            r#"{"profile": {"profile": "L40S-1Q", "attributes": [["a", "b"]]}}"#,
            r#"{"device": "gpu0"}"#,
        ] {
            assert!(serde_json::from_str::<Wish>(right).is_ok(), "{right}");
        }
        for (wrong, why) in [
            (r#"{"any": {"kind": "gpu"}, "node": 0}"#, "one of"),
            (r#"{"any": {"kind": "gpu", "nodes": 0}}"#, "nodes"),
            (r#"{"any": []}"#, "not an object"),
            (r#"{"vf": {"of": "nic0", "vlan": 7}}"#, "vlan"),
            (r#"{"vf": {"settings": [null]}}"#, "not an object"),
            (r#"{"gpu": 1}"#, "unknown kind"),
            (r#"{"count": 2}"#, "one of"),
            ("{}", "one of"),
            ("[]", "string or an object"),
            ("7", "string or an object"),
        ] {
            let error = serde_json::from_str::<Wish>(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
