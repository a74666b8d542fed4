//! Reading and writing below an object by a path of fields: `domain.cpu.sockets`.

use serde_json::{Map, Value};

use crate::quantity::Quantity;

/// What is below a value. As in KubeVirt's own objects, an empty text and a zero are as good as nothing.
pub trait Below {
    /// What is at a path.
    fn at(&self, path: &str) -> Option<&Value>;

    /// What is at a path, made where it is not there; what is in the way is replaced.
    fn make(&mut self, path: &str) -> &mut Value;

    /// Whether something is at a path.
    fn has(&self, path: &str) -> bool {
        self.at(path).is_some_and(|value| !value.is_null())
    }

    /// The text at a path; empty where there is none.
    fn text(&self, path: &str) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The switch at a path.
    fn switch(&self, path: &str) -> Option<bool> {
        self.at(path).and_then(Value::as_bool)
    }

    /// The whole number at a path; 0 where there is none.
    fn number(&self, path: &str) -> i64 {
        self.at(path).and_then(Value::as_i64).unwrap_or(0)
    }

    /// The quantity at a path.
    fn quantity(&self, path: &str) -> Option<Quantity> {
        self.at(path).and_then(read)
    }

    /// The list at a path; empty where there is none.
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

    /// Sets what is at a path.
    fn set(&mut self, path: &str, value: impl Into<Value>) {
        *self.make(path) = value.into();
    }

    /// Sets what is at a path where nothing is.
    fn set_default(&mut self, path: &str, value: impl Into<Value>) {
        if !self.has(path) || self.at(path).is_some_and(|value| *value == "") {
            self.set(path, value);
        }
    }

    /// Makes an object at a path where nothing is.
    fn make_object(&mut self, path: &str) {
        self.set_default(path, Map::new());
    }
}

/// A quantity as it is in an object.
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
            // An object since the line above.
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
