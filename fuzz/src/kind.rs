//! How a reader treated an input.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How a reader treated an input, roughly: the text of its error, or the shape of what it found. The driver keeps one input of
/// each kind as a parent of others, which leads it deeper without instrumented code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(u64);

impl Kind {
    /// The kind of an answer or an error: its words, without what it quotes from the input, numbers and paths.
    #[must_use]
    pub fn of(text: impl Display) -> Self {
        let mut hasher = DefaultHasher::new();
        for word in unquoted(&text.to_string()).split_whitespace().take(200) {
            if !word.contains(|letter: char| {
                letter == '/' || !letter.is_ascii_graphic() || letter.is_ascii_digit()
            }) {
                word.hash(&mut hasher);
            }
        }
        Self(hasher.finish())
    }

    /// The kind of a result.
    pub fn of_result<T: Display, E: Display>(result: &Result<T, E>) -> Self {
        match result {
            Ok(value) => Self::of(value).and(1),
            Err(error) => Self::of(error),
        }
    }

    /// The kind of several facts: counts are compared by their magnitude.
    #[must_use]
    pub fn and(self, count: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.0, count.checked_ilog2()).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Both kinds.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.0, other.0).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// A text without what is in quotes.
fn unquoted(text: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    let mut rest = String::new();
    for letter in text.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if letter == '\\' => escaped = true,
            Some(begun) if begun == letter => quote = None,
            None if letter == '"' || letter == '`' => quote = Some(letter),
            None => rest.push(letter),
            Some(_) => {}
        }
    }
    rest
}
