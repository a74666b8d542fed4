//! Tags of devices and instances.

use std::collections::BTreeMap;

/// Whether `have` contains all tags of `asked`.
pub fn has_tags(have: &BTreeMap<String, String>, asked: &BTreeMap<String, String>) -> bool {
    asked.iter().all(|(key, value)| have.get(key) == Some(value))
}
