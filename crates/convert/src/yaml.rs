//! YAML (and JSON, which is YAML) as a tree of values with their places.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Options, Spanned, alias_limits, budget};

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it is used.
    pub at: Location,
    /// Where it is defined; for an alias, the place of its anchor.
    pub written: Location,
    /// Its content.
    pub content: Content,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Content {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in the order of the file.
    Map(Vec<(Node, Node)>),
}

/// The documents of a text. Empty ones are omitted.
pub fn documents(text: &str) -> Result<Vec<Node>, serde_saphyr::Error> {
    serde_saphyr::from_multiple_with_options(text, options())
}

/// Limits: enough for thousands of virtual machines, but small enough to stop alias bombs.
fn options() -> Options {
    serde_saphyr::options! {
        budget: budget! {
            max_depth: 64,
            max_nodes: 4_000_000,
            max_events: 8_000_000,
            max_anchors: 1000,
            max_aliases: 10_000,
            max_documents: 20_000,
        },
        alias_limits: alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 10_000,
        },
        with_snippet: false,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, defined } = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { at: referenced, written: defined, content: value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Content, E> {
        #[expect(clippy::cast_precision_loss, reason = "values in these files are smaller")]
        let float = || Content::Float(value as f64);
        Ok(i64::try_from(value).map_or_else(|_| float(), Content::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Content::Map(map))
    }
}

impl Node {
    /// The value of a key of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|(name, _)| name.is_text(key)).map(|(_, value)| value)
    }

    /// The value at a path such as `spec.volumes.0.name`, or the deepest value on the way to it. Keys may contain dots.
    pub fn nearest(&self, path: &str) -> &Self {
        let below = |name: &str| match path.strip_prefix(name) {
            Some("") => Some(""),
            Some(rest) => rest.strip_prefix('.'),
            None => None,
        };
        let found = match &self.content {
            Content::Map(entries) => {
                entries.iter().find_map(|(key, value)| Some((value, below(key.text()?)?)))
            }
            Content::List(items) => {
                let (number, rest) = path.split_once('.').unwrap_or((path, ""));
                let item = number.parse::<usize>().ok().and_then(|number| items.get(number));
                item.map(|item| (item, rest))
            }
            _ => None,
        };
        match found {
            Some((value, "")) => value,
            Some((value, rest)) => value.nearest(rest),
            None => self,
        }
    }

    /// Its string, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    fn is_text(&self, text: &str) -> bool {
        self.text() == Some(text)
    }

    /// Its type, in words.
    pub const fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "`true` or `false`",
            Content::Integer(_) | Content::Float(_) => "a number",
            Content::Text(_) => "a string",
            Content::List(_) => "a list",
            Content::Map(_) => "a list of `key: value`",
        }
    }

    /// The source text of a scalar.
    pub fn raw<'a>(&self, source: &'a str) -> Option<&'a str> {
        let span = self.written.span();
        let from = usize::try_from(span.byte_offset()?).ok()?;
        let to = from.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        source.get(from..to).map(str::trim).filter(|raw| !raw.is_empty())
    }
}
