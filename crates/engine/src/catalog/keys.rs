//! The keys of a devices file: each one that has no meaning, with its position.

use std::fmt;

use model::Mistakes;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::mistake::Marks;

const FILE: &[&str] = &["vendors"];
const VENDOR: &[&str] = &["id", "name", "devices"];
const DEVICE: &[&str] = &[
    "id",
    "name",
    "type",
    "subsystemVendor",
    "subsystemDevice",
    "revision",
    "subsystem",
    "addresses",
    "exclude",
];

/// The keys of a file, without its values.
#[derive(Debug)]
pub enum Keys {
    /// A value.
    Value,
    /// A list.
    List(Vec<Self>),
    /// An object.
    Object(Vec<(Spanned<String>, Self)>),
}

impl Keys {
    /// Adds a mistake for each key without a meaning.
    pub fn check(&self, mistakes: &mut Mistakes) {
        let Some(file) = self.object(FILE, mistakes) else { return };
        for vendor in listed(file, "vendors") {
            let Some(vendor) = vendor.object(VENDOR, mistakes) else { continue };
            for device in listed(vendor, "devices") {
                device.object(DEVICE, mistakes);
            }
        }
    }

    /// The entries of an object, whose keys are checked.
    fn object(
        &self,
        known: &[&str],
        mistakes: &mut Mistakes,
    ) -> Option<&Vec<(Spanned<String>, Self)>> {
        let Self::Object(entries) = self else { return None };
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.value.as_str())) {
            mistakes.mark(
                key.referenced,
                format!("unknown key `{}`", key.value),
                &format!("valid keys here: {}", known.join(", ")),
            );
        }
        Some(entries)
    }
}

/// The items of the list under a key.
fn listed<'a>(
    entries: &'a [(Spanned<String>, Keys)],
    key: &str,
) -> impl Iterator<Item = &'a Keys> + use<'a> {
    let list = entries.iter().find(|(one, _)| one.value == key);
    let list = match list {
        Some((_, Keys::List(list))) => list.as_slice(),
        _ => &[],
    };
    list.iter()
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or an object")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_unit<E>(self) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_none<E>(self) -> Result<Keys, E> {
        Ok(Keys::Value)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Keys, D::Error> {
        Keys::deserialize(reader)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Keys, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Keys::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Keys, A::Error> {
        let mut object = Vec::new();
        while let Some(key) = entries.next_key()? {
            object.push((key, entries.next_value()?));
        }
        Ok(Keys::Object(object))
    }
}
