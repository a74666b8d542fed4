//! Mistakes at positions of the YAML reader, and its syntax errors in plain words.

use model::{Mistakes, TextSpan};
use serde_saphyr::{Error as YamlError, Location};

/// Adds mistakes at positions of the YAML reader.
pub(super) trait Marks {
    /// Adds a mistake.
    fn mark(&mut self, at: Location, problem: impl Into<String>, remedy: &str);

    /// Adds the one mistake of a text with a syntax error.
    fn form(self, error: &YamlError) -> Self;
}

impl Marks for Mistakes {
    fn mark(&mut self, at: Location, problem: impl Into<String>, remedy: &str) {
        let place = TextSpan {
            line: u32::try_from(at.line()).unwrap_or(0),
            column: u32::try_from(at.column()).unwrap_or(1),
            width: u32::try_from(at.span().len()).unwrap_or(u32::MAX),
        };
        self.add(place, problem, remedy);
    }

    fn form(mut self, error: &YamlError) -> Self {
        let error = error.without_snippet();
        let at = error.location().unwrap_or(Location::UNKNOWN);
        let (problem, remedy) = match error {
            YamlError::DuplicateMappingKey { key, .. } => (
                format!("duplicate key `{}`", key.as_deref().unwrap_or_default()),
                "remove one of them".to_owned(),
            ),
            YamlError::Unexpected { expected, .. } => (
                format!("expected {}", form_in_words(expected)),
                "compare with the example in docs/catalog.md".to_owned(),
            ),
            YamlError::Budget { .. } => (
                "the file exceeds the limits of a devices file".to_owned(),
                "write one document, no deeper than vendors, devices and addresses".to_owned(),
            ),
            other => (words(other), "compare with the example in docs/catalog.md".to_owned()),
        };
        self.mark(at, problem, &remedy);
        self
    }
}

fn form_in_words(expected: &str) -> &str {
    match expected {
        "mapping start" => "a list of `key: value`",
        "sequence start" => "a list with a `-` before each item",
        "string scalar" => "a single word",
        other => other,
    }
}

/// The parser's message without the position, which is shown separately.
fn words(error: &YamlError) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.rsplit_once(" at line ").map_or(text, |(words, _)| words);
    text.trim_end_matches([' ', ',', ':']).to_owned()
}
