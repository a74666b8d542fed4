//! The fields of KubeVirt's objects, and their types.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Any value; not checked.
    Any,
    /// A string.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A string or a number.
    Scalar,
    /// A quantity, such as `4Gi`.
    Quantity,
    /// A list.
    List(Box<Self>),
    /// A map with string keys.
    Map(Box<Self>),
    /// An object with fields.
    Object(&'static str),
}

/// The fields of a type, sorted by name.
pub type Fields = Vec<(&'static str, Type)>;

static FIELDS: LazyLock<HashMap<&'static str, Fields>> = LazyLock::new(|| {
    let mut all: HashMap<&str, Fields> = HashMap::new();
    let mut current = "";
    for line in include_str!("../data/kubevirt.fields").lines() {
        match line.strip_prefix(' ').and_then(|line| line.split_once(' ')) {
            Some((name, of)) => all.entry(current).or_default().push((name, Type::of(of))),
            None if line.starts_with('#') => {}
            None => {
                current = line;
                all.entry(current).or_default();
            }
        }
    }
    all
});

impl Type {
    fn of(text: &'static str) -> Self {
        let within = |open, close| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
        match text {
            "any" => Self::Any,
            "string" => Self::Text,
            "boolean" => Self::Bool,
            "integer" => Self::Integer,
            "scalar" => Self::Scalar,
            "quantity" => Self::Quantity,
            _ => match (within('[', ']'), within('{', '}')) {
                (Some(of), _) => Self::List(Box::new(Self::of(of))),
                (_, Some(of)) => Self::Map(Box::new(Self::of(of))),
                _ => Self::Object(text),
            },
        }
    }
}

/// The fields of a type; empty for an unknown type.
pub fn of(name: &str) -> &'static [(&'static str, Type)] {
    FIELDS.get(name).map_or(&[], Vec::as_slice)
}

/// Whether a type has the field at a path such as `domain.cpu.sockets`.
#[cfg(test)]
pub fn has(name: &'static str, path: &str) -> bool {
    path.split('.')
        .try_fold(Type::Object(name), |of, field| match of {
            Type::Object(name) => {
                self::of(name).iter().find(|(own, _)| *own == field).map(|(_, of)| of.clone())
            }
            _ => None,
        })
        .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_named_is_there() {
        fn check(of: &Type) {
            match of {
                Type::List(of) | Type::Map(of) => check(of),
                Type::Object(name) => assert!(FIELDS.contains_key(name), "{name}"),
                _ => {}
            }
        }
        FIELDS.values().flatten().for_each(|(_, of)| check(of));
        let gpu = super::of("GPU");
        assert!(gpu.contains(&("deviceName", Type::Text)), "{gpu:?}");
    }
}
