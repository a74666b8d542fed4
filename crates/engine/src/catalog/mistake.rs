//! Where YAML is wrong, as its reader tells it.

use model::{Mistakes, TextSpan};
use serde_saphyr::{Error as YamlError, Location};

/// Mistakes at the places of the YAML reader.
pub(super) trait Marks {
    /// Adds a mistake.
    fn mark(&mut self, at: Location, problem: impl Into<String>, remedy: &str);

    /// The one mistake of a text whose form is broken.
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
            YamlError::SerdeUnknownField { field, expected, .. } => (
                format!("`{field}` is no key here"),
                format!("the keys here are {}", expected.join(", ")),
            ),
            YamlError::DuplicateMappingKey { key, .. } => (
                format!("`{}` is here a second time", key.as_deref().unwrap_or_default()),
                "remove one of the two".to_owned(),
            ),
            YamlError::Unexpected { expected, .. } => (
                format!("{} belongs here", form_in_words(expected)),
                "compare with the example in docs/catalog.md".to_owned(),
            ),
            YamlError::Budget { .. } => (
                "there is more here than a devices file can have".to_owned(),
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

/// The parser's words without the place, which is shown by itself.
fn words(error: &YamlError) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.rsplit_once(" at line ").map_or(text, |(words, _)| words);
    text.trim_end_matches([' ', ',', ':']).to_owned()
}
