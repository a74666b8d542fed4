//! Prints objects: YAML as `kubectl` prints it, or JSON; keys are sorted.

use std::fmt::Write as _;

use model::shown::is_deceptive;
use serde_json::Value;

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// YAML.
    #[default]
    Yaml,
    /// JSON, indented. It is valid YAML, so podman accepts it.
    Json,
}

/// The text of several objects, separated by `---`.
#[must_use]
pub fn documents(objects: &[Value], format: Format) -> String {
    let mut text = String::new();
    for (number, object) in objects.iter().enumerate() {
        if number > 0 {
            text.push_str("---\n");
        }
        match format {
            Format::Yaml => block(object, 0, &mut text),
            Format::Json => {
                let _ = writeln!(text, "{object:#}");
            }
        }
    }
    text
}

/// A value on lines of its own.
fn block(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (number, (key, value)) in map.iter().enumerate() {
                // The first key of a list item follows its dash.
                if number > 0 || !text.ends_with("- ") {
                    space(indent, text);
                }
                scalar(key, text);
                text.push(':');
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        text.push('\n');
                        block(value, indent + 2, text);
                    }
                    Value::Array(list) if !list.is_empty() => {
                        text.push('\n');
                        block(value, indent, text);
                    }
                    _ => inline(value, text),
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (number, item) in list.iter().enumerate() {
                if number > 0 || !text.ends_with("- ") {
                    space(indent, text);
                }
                text.push_str("- ");
                block(item, indent + 2, text);
            }
        }
        _ => {
            // After a dash, or at the start of the document.
            if text.ends_with(' ') {
                text.pop();
            }
            let start = text.len();
            inline(value, text);
            if start == 0 {
                text.remove(0);
            }
        }
    }
}

/// A value after its key or dash.
fn inline(value: &Value, text: &mut String) {
    text.push(' ');
    match value {
        Value::String(one) => scalar(one, text),
        Value::Object(_) => text.push_str("{}"),
        Value::Array(_) => text.push_str("[]"),
        other => {
            let _ = write!(text, "{other}");
        }
    }
    text.push('\n');
}

fn space(count: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', count));
}

/// Words that YAML 1.1, which podman reads, does not parse as strings.
const WORDS: [&str; 11] =
    ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];

/// A string, quoted unless every reader parses it as a string.
fn scalar(one: &str, text: &mut String) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    let first = one.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let flag = one.starts_with("--") && one.len() > 3;
    let word = WORDS.iter().any(|word| one.eq_ignore_ascii_case(word));
    if (first || flag) && !word && one.bytes().all(plain) {
        return text.push_str(one);
    }
    text.push('"');
    for letter in one.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            // Not printable in YAML, parsed as a line end, or deceptive on a terminal.
            '\u{0}'..='\u{ffff}' if is_deceptive(letter) || letter >= '\u{fffe}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            _ if is_deceptive(letter) => {
                let _ = write!(text, "\\U{:08x}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn as_kubectl_prints() {
        let object = json!({
            "a": [], "b": {}, "c": [1, "1", "yes", { "x": true, "w": [["z"]] }], "d": { "e": null },
        });
        let text =
            "a: []\nb: {}\nc:\n- 1\n- \"1\"\n- \"yes\"\n- w:\n  - - z\n  x: true\nd:\n  e: null\n";
        assert_eq!(documents(&[object], Format::Yaml), text);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[-a-z0-9:#{}\\[\\]\"'\\\\\n\t yesno~.]{0,12}".prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z:# -]{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(value in value()) {
            let text = documents(std::slice::from_ref(&value), Format::Yaml);
            let read: Value = serde_saphyr::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
