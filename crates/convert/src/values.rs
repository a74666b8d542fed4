//! Reads and writes fields of an object by a path such as `domain.cpu.sockets`.

use serde_json::{Map, Value};

use crate::quantity::Quantity;

/// Access to fields below a value. As in KubeVirt's objects, an empty string and zero mean absent.
pub trait Below {
    /// The value at a path.
    fn at(&self, path: &str) -> Option<&Value>;

    /// The value at a path; created if absent, with parents of other types replaced.
    fn make(&mut self, path: &str) -> &mut Value;

    /// Whether a path has a value.
    fn has(&self, path: &str) -> bool {
        self.at(path).is_some_and(|value| !value.is_null())
    }

    /// The string at a path; empty if absent.
    fn text(&self, path: &str) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The switch at a path.
    fn switch(&self, path: &str) -> Option<bool> {
        self.at(path).and_then(Value::as_bool)
    }

    /// The integer at a path; 0 if absent.
    fn number(&self, path: &str) -> i64 {
        self.at(path).and_then(Value::as_i64).unwrap_or(0)
    }

    /// The quantity at a path.
    fn quantity(&self, path: &str) -> Option<Quantity> {
        self.at(path).and_then(read)
    }

    /// The list at a path; empty if absent.
    fn list(&self, path: &str) -> &[Value] {
        self.at(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The list at a path, to change its items.
    fn items(&mut self, path: &str) -> &mut [Value];

    /// The entries of the map at a path.
    fn entries(&self, path: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.at(path).and_then(Value::as_object).into_iter().flatten()
    }

    /// Adds to the list at a path.
    fn push(&mut self, path: &str, value: Value);

    /// Sets the value at a path.
    fn set(&mut self, path: &str, value: impl Into<Value>) {
        *self.make(path) = value.into();
    }

    /// Sets the value at a path if absent.
    fn set_default(&mut self, path: &str, value: impl Into<Value>) {
        if !self.has(path) || self.at(path).is_some_and(|value| *value == "") {
            self.set(path, value);
        }
    }

    /// Creates an object at a path if absent.
    fn make_object(&mut self, path: &str) {
        self.set_default(path, Map::new());
    }
}

/// Parses a quantity of an object.
pub fn read(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

impl Below for Value {
    fn at(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |value, field| value.get(field))
    }

    fn make(&mut self, path: &str) -> &mut Value {
        path.split('.').fold(self, |value, field| {
            if !value.is_object() {
                *value = Self::Object(Map::new());
            }
            // Is an object, by the line above.
            &mut value[field]
        })
    }

    fn items(&mut self, path: &str) -> &mut [Value] {
        let found = path.split('.').try_fold(self, |value, field| value.get_mut(field));
        found.and_then(Self::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
    }

    fn push(&mut self, path: &str, value: Value) {
        let list = self.make(path);
        match list.as_array_mut() {
            Some(list) => list.push(value),
            None => *list = Self::Array(vec![value]),
        }
    }
}
