//! Converts a YAML tree to a KubeVirt object: each value gets the type of its field; unknown fields and wrong types are
//! reported with their places.

use model::{Mistakes, TextSpan};
use serde_json::{Map, Number, Value};
use serde_saphyr::Location;

use crate::fields::{self, Type};
use crate::quantity::Quantity;
use crate::yaml::{Content, Node};

/// An unknown field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its place.
    pub at: TextSpan,
    /// The path to it, such as `spec.template.spec.domian`.
    pub path: String,
    /// A known field with a similar name.
    pub like: Option<&'static str>,
}

/// A typed object.
#[derive(Clone, Debug)]
pub struct Typed {
    /// The object.
    pub object: Value,
    /// Its unknown fields.
    pub unknown: Vec<Unknown>,
    /// The paths of values that are left out because they have the wrong type.
    pub wrong: Vec<String>,
}

/// Converts trees to typed objects.
pub struct Reader<'a> {
    source: &'a str,
    mistakes: &'a mut Mistakes,
    unknown: Vec<Unknown>,
    wrong: Vec<String>,
    path: Vec<String>,
}

/// The place of a location of the YAML reader.
pub fn place(at: Location) -> TextSpan {
    TextSpan {
        line: u32::try_from(at.line()).unwrap_or(0),
        column: u32::try_from(at.column()).unwrap_or(1),
        width: u32::try_from(at.span().len()).unwrap_or(u32::MAX),
    }
}

impl<'a> Reader<'a> {
    /// A reader of a text.
    pub fn new(source: &'a str, mistakes: &'a mut Mistakes) -> Self {
        Self { source, mistakes, unknown: Vec::new(), wrong: Vec::new(), path: Vec::new() }
    }

    /// The object of a type.
    pub fn object(mut self, name: &'static str, node: &Node) -> Typed {
        let object = self.value(&Type::Object(name), node).unwrap_or_default();
        Typed { object, unknown: self.unknown, wrong: self.wrong }
    }

    fn value(&mut self, of: &Type, node: &Node) -> Option<Value> {
        match (of, &node.content) {
            // As in Go's JSON, null means absent.
            (_, Content::Null) => None,
            (Type::Any, _) => Some(any(node)),
            (Type::Object(name), Content::Map(entries)) => {
                Some(Value::Object(self.fields(fields::of(name), entries)))
            }
            (Type::Map(of), Content::Map(entries)) => Some(Value::Object(self.map(of, entries))),
            (Type::List(of), Content::List(items)) => Some(Value::Array(self.list(of, items))),
            (Type::Object(_) | Type::Map(_) | Type::List(_), _) => self.wrong(of, node),
            (_, Content::List(_) | Content::Map(_)) => self.wrong(of, node),
            (Type::Bool, Content::Bool(value)) => Some(Value::Bool(*value)),
            (Type::Integer, Content::Integer(value)) => Some(Value::from(*value)),
            (Type::Scalar, Content::Integer(value)) => Some(Value::from(*value)),
            (Type::Scalar, Content::Float(value)) => Number::from_f64(*value).map(Value::Number),
            (Type::Text | Type::Scalar, Content::Text(text)) => Some(Value::from(text.as_str())),
            // KubeVirt's YAML reader also accepts `hostname: 12` as a string.
            (Type::Text, _) => node.raw(self.source).map(Value::from),
            (Type::Quantity, _) => self.quantity(node),
            (Type::Bool | Type::Integer | Type::Scalar, _) => self.wrong(of, node),
        }
    }

    fn fields(
        &mut self,
        known: &[(&'static str, Type)],
        entries: &[(Node, Node)],
    ) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, value) in entries {
            let name = self.key(key);
            let found = known.iter().find(|(field, _)| *field == name);
            self.path.push(name);
            if let Some((field, of)) = found {
                if let Some(value) = self.value(of, value) {
                    object.insert((*field).to_owned(), value);
                }
            } else {
                let name = self.path.last().map_or("", String::as_str);
                let like = known.iter().map(|(field, _)| *field).find(|field| is_like(field, name));
                let (at, path) = (place(key.at), self.path.join("."));
                self.unknown.push(Unknown { at, path, like });
            }
            self.path.pop();
        }
        object
    }

    fn map(&mut self, of: &Type, entries: &[(Node, Node)]) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, value) in entries {
            let name = self.key(key);
            self.path.push(name.clone());
            if let Some(value) = self.value(of, value) {
                object.insert(name, value);
            }
            self.path.pop();
        }
        object
    }

    fn list(&mut self, of: &Type, items: &[Node]) -> Vec<Value> {
        let mut list = Vec::new();
        for (number, item) in items.iter().enumerate() {
            self.path.push(number.to_string());
            match self.value(of, item) {
                Some(value) => list.push(value),
                None if matches!(item.content, Content::Null) => {
                    self.wrong(of, item);
                }
                None => {}
            }
            self.path.pop();
        }
        list
    }

    fn quantity(&mut self, node: &Node) -> Option<Value> {
        let text = node.text().or_else(|| node.raw(self.source)).unwrap_or_default().trim();
        let Ok(quantity) = text.parse::<Quantity>() else {
            let short: String = text.chars().take(40).collect();
            let problem = format!("{short:?} is not a quantity, at {}", self.path.join("."));
            let remedy = "use a number with an optional suffix, such as 4Gi, 512Mi, 2 or 500m";
            self.mistakes.add(place(node.at), problem, remedy);
            self.wrong.push(self.path.join("."));
            return None;
        };
        Some(Value::from(quantity.to_string()))
    }

    fn key(&self, key: &Node) -> String {
        key.text().or_else(|| key.raw(self.source)).unwrap_or_default().to_owned()
    }

    fn wrong(&mut self, of: &Type, node: &Node) -> Option<Value> {
        let wanted = match of {
            Type::Bool => "`true` or `false`",
            Type::Integer => "a whole number",
            Type::List(_) => "a list with a `-` before each item",
            Type::Map(_) | Type::Object(_) => "a list of `key: value`",
            Type::Any | Type::Text | Type::Scalar | Type::Quantity => "a single word or number",
        };
        let path = self.path.join(".");
        let problem = match path.as_str() {
            "" => format!("the document is {}", node.kind()),
            path => format!("{path} is {}", node.kind()),
        };
        self.mistakes.add(place(node.at), problem, format!("use {wanted} here"));
        self.wrong.push(path);
        None
    }
}

/// A value that is not checked.
fn any(node: &Node) -> Value {
    match &node.content {
        Content::Null => Value::Null,
        Content::Bool(value) => Value::Bool(*value),
        Content::Integer(value) => Value::from(*value),
        Content::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Content::Text(text) => Value::from(text.as_str()),
        Content::List(items) => items.iter().map(any).collect(),
        Content::Map(entries) => {
            let entry = |(key, value): &(Node, Node)| {
                (key.text().unwrap_or_default().to_owned(), any(value))
            };
            Value::Object(entries.iter().map(entry).collect())
        }
    }
}

/// Whether a field was probably misspelt: other case, or one letter off.
fn is_like(field: &str, written: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (
        field.chars().flat_map(char::to_lowercase).collect(),
        written.chars().take(64).flat_map(char::to_lowercase).collect(),
    );
    let front = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let longest = a.len().max(b.len());
    // Two letters swapped, or one wrong, missing or extra.
    a.len().abs_diff(b.len()) <= 1 && longest >= 3 && front + back + 2 >= longest
}
