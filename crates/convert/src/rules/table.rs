//! The rules of single fields and objects, from `data/kubevirt.rules`.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::format::Format;
use super::{Found, join, short};
use crate::fields::{self, Type};

/// A rule of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// The field is present and not empty.
    Required(&'static str),
    /// The field has one of these values.
    In(&'static str, Vec<&'static str>),
    /// The field's number is in this range.
    Range(&'static str, i64, Option<i64>),
    /// The field has this format; a list has it in each item.
    Format(&'static str, Format),
    /// A number of these fields are present.
    Count(Count, &'static str, Vec<&'static str>),
}

/// How many of several fields may be present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// Exactly one.
    One,
    /// At least one.
    Any,
    /// At most one.
    Most,
}

static RULES: LazyLock<HashMap<&'static str, Vec<Rule>>> = LazyLock::new(|| {
    let mut all: HashMap<&str, Vec<Rule>> = HashMap::new();
    let mut current = "";
    let lines = include_str!("../../data/kubevirt.rules").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        match line.strip_prefix(' ') {
            Some(rule) => all.entry(current).or_default().extend(Rule::of(rule)),
            None => current = line,
        }
    }
    all
});

impl Rule {
    /// The rule in a line of the table; a test checks that every line has one.
    fn of(line: &'static str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix("= ") {
            let (front, names) = rest.split_once(" of ")?;
            let (count, what) = front.split_once(' ')?;
            let count = match count {
                "one" => Count::One,
                "any" => Count::Any,
                "most" => Count::Most,
                _ => return None,
            };
            return Some(Self::Count(count, what, names.split(' ').collect()));
        }
        let (field, rest) = line.split_once(' ')?;
        if rest == "required" {
            return Some(Self::Required(field));
        }
        if let Some(values) = rest.strip_prefix("in ") {
            return Some(Self::In(field, values.split(' ').collect()));
        }
        if let Some(format) = rest.strip_prefix("format ") {
            return Format::of(format).map(|format| Self::Format(field, format));
        }
        let (least, most) = rest.split_once("..")?;
        let most = if most.is_empty() { None } else { Some(most.parse().ok()?) };
        Some(Self::Range(field, least.parse().ok()?, most))
    }

    /// Checks an object at `path`.
    fn check(&self, path: &str, object: &Value, found: &mut Found) {
        match self {
            Self::Required(field) => {
                if !is_present(object.get(field)) {
                    let remedy = format!("add `{field}`; KubeVirt requires it");
                    found.add(path, format!("has no {field}"), remedy);
                }
            }
            Self::In(field, values) => {
                let value = object.get(field).and_then(Value::as_str).unwrap_or_default();
                if !value.is_empty() && !values.contains(&value) {
                    let remedy = match values.as_slice() {
                        [only] => format!("use `{only}`"),
                        all => format!("use one of: {}", all.join(", ")),
                    };
                    let problem = format!("is \"{}\"", short(value));
                    found.add(&join(path, field), problem, remedy);
                }
            }
            Self::Range(field, least, most) => {
                let number = object.get(field).and_then(Value::as_i64);
                let fits = |number: i64| number >= *least && most.is_none_or(|most| number <= most);
                if let Some(number) = number.filter(|number| !fits(*number)) {
                    let remedy = match most {
                        Some(most) => format!("use a number from {least} to {most}"),
                        None => format!("use a number of at least {least}"),
                    };
                    found.add(&join(path, field), format!("is {number}"), remedy);
                }
            }
            Self::Format(field, format) => {
                let path = join(path, field);
                match object.get(field) {
                    Some(Value::Array(items)) => {
                        for (number, item) in items.iter().enumerate() {
                            format.check(&format!("{path}.{number}"), item, found);
                        }
                    }
                    Some(value) => format.check(&path, value, found),
                    None => {}
                }
            }
            Self::Count(count, what, names) => counted(*count, what, names, path, object, found),
        }
    }
}

fn counted(
    count: Count,
    what: &str,
    names: &[&str],
    path: &str,
    object: &Value,
    found: &mut Found,
) {
    let there: Vec<&str> =
        names.iter().copied().filter(|name| is_present(object.get(name))).collect();
    let all = names.join(", ");
    if there.is_empty() && count != Count::Most {
        let one = if count == Count::One { "exactly one" } else { "at least one" };
        found.add(path, format!("has no {what}"), format!("add {one} of: {all}"));
    }
    if there.len() > 1 && count != Count::Any {
        let problem = format!("has more than one {what}: {}", there.join(", "));
        found.add(path, problem, "keep one of them");
    }
}

/// Whether a field has a value. As in KubeVirt, an empty string or list is none.
fn is_present(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    }
}

/// Checks the rules of the object of a type, and of all objects in it.
pub fn check(of: &'static str, path: &str, object: &Value, found: &mut Found) {
    for rule in RULES.get(of).into_iter().flatten() {
        rule.check(path, object, found);
    }
    for (field, of) in fields::of(of) {
        if let Some(value) = object.get(field) {
            within(of, &join(path, field), value, found);
        }
    }
}

/// The depth is that of the types, which do not contain themselves.
fn within(of: &Type, path: &str, value: &Value, found: &mut Found) {
    match (of, value) {
        (Type::Object(name), Value::Object(_)) => check(name, path, value, found),
        (Type::List(of), Value::Array(items)) => {
            for (number, item) in items.iter().enumerate() {
                within(of, &format!("{path}.{number}"), item, found);
            }
        }
        (Type::Map(of), Value::Object(entries)) => {
            for (key, value) in entries {
                within(of, &join(path, key), value, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_rule_of_a_known_field() {
        let mut current = "";
        let text = include_str!("../../data/kubevirt.rules");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some(line) = line.strip_prefix(' ') else {
                current = line;
                assert!(!fields::of(current).is_empty(), "unknown type {current}");
                continue;
            };
            let rule = Rule::of(line);
            let names = match &rule {
                Some(Rule::Count(_, _, names)) => names.clone(),
                Some(
                    Rule::Required(field)
                    | Rule::In(field, _)
                    | Rule::Range(field, ..)
                    | Rule::Format(field, _),
                ) => vec![*field],
                None => panic!("{current}: {line}"),
            };
            for name in names {
                let known = fields::of(current).iter().any(|(field, _)| *field == name);
                assert!(known, "{current} has no field {name}");
            }
        }
    }

    #[test]
    fn no_type_contains_itself() {
        fn walk(of: &Type, path: &mut Vec<&'static str>) {
            match of {
                Type::List(of) | Type::Map(of) => walk(of, path),
                Type::Object(name) => {
                    assert!(!path.contains(name), "{path:?} contains {name}");
                    path.push(name);
                    fields::of(name).iter().for_each(|(_, of)| walk(of, path));
                    path.pop();
                }
                _ => {}
            }
        }
        for root in ["VirtualMachine", "VirtualMachineInstance", "beta.VirtualMachineInstancetype"]
        {
            walk(&Type::Object(root), &mut Vec::new());
        }
    }
}
