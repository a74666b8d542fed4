//! What a start of a machine chooses, in words.

/// One thing that is chosen, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is chosen, such as `memory`.
    pub item: String,
    /// The choice.
    pub value: String,
    /// Why it is chosen.
    pub reason: String,
}

impl Choice {
    /// A choice.
    pub fn new(
        item: impl Into<String>,
        value: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { item: item.into(), value: value.into(), reason: reason.into() }
    }
}
