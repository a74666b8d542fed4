//! Tags: labels that a person gives to devices and instances.

use std::collections::BTreeMap;

/// Whether all tags asked for are there.
pub fn has_tags(have: &BTreeMap<String, String>, asked: &BTreeMap<String, String>) -> bool {
    asked.iter().all(|(key, value)| have.get(key) == Some(value))
}
