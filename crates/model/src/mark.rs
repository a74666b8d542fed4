//! The mark on a function that a claim takes: it tells another Handover, with other directories, whose the function is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whose a function is. The host keeps it with the function, until the function goes or the host restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The store (`state.db`) that has the claim.
    pub store: Uuid,
    /// The claim.
    pub claim: Uuid,
    /// The store's directory, for messages.
    pub state_dir: String,
}

impl Mark {
    /// Whether both are of one claim. A state directory can be moved.
    #[must_use]
    pub fn is_same_claim(&self, other: &Self) -> bool {
        self.store == other.store && self.claim == other.claim
    }

    /// Whose the function is, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        // Debug escapes what could change a terminal.
        format!("state directory {:?}, claim {}", self.state_dir, self.claim)
    }
}

/// The mark as the host keeps it: `STORE CLAIM STATE-DIR`.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.store, self.claim, self.state_dir)
    }
}

/// A text that is no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not written as STORE CLAIM STATE-DIR")]
pub struct MarkError;

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let mut words = text.splitn(3, ' ');
        let mut id = || words.next().and_then(|word| word.parse().ok()).ok_or(MarkError);
        let (store, claim) = (id()?, id()?);
        let state_dir = words.next().ok_or(MarkError)?.to_owned();
        Ok(Self { store, claim, state_dir })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark {
            store: Uuid::from_u128(1),
            claim: Uuid::from_u128(2),
            state_dir: "/var/lib/a b".into(),
        };
        assert_eq!(mark.to_string().parse(), Ok(mark.clone()));
        for text in ["", "a", "a b c", "00000000-0000-0000-0000-000000000001 /var/lib/x"] {
            assert_eq!(text.parse::<Mark>(), Err(MarkError), "{text}");
        }
        let moved = Mark { state_dir: "/srv\x1b[2J".into(), ..mark.clone() };
        assert!(mark.is_same_claim(&moved));
        assert!(!moved.describe().contains('\x1b'), "{}", moved.describe());
        assert!(!mark.is_same_claim(&Mark { claim: Uuid::nil(), ..mark.clone() }));
    }
}
