//! The mark on a claimed function, by which other Handover processes with other state directories find its owner.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The owner of a function. The host keeps the mark with the function, until the function disappears or the host
/// reboots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The store (`state.db`) with the claim.
    pub store: Uuid,
    /// The claim.
    pub claim: Uuid,
    /// The store's directory, for messages.
    pub state_dir: String,
}

impl Mark {
    /// Whether both belong to the same claim. A state directory can be moved.
    #[must_use]
    pub fn is_same_claim(&self, other: &Self) -> bool {
        self.store == other.store && self.claim == other.claim
    }

    /// The owner, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        // Debug escapes terminal control characters.
        format!("state directory {:?}, claim {}", self.state_dir, self.claim)
    }
}

/// The mark as the host keeps it: `STORE CLAIM STATE-DIR`.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.store, self.claim, self.state_dir)
    }
}

/// The text is not a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not have the form STORE CLAIM STATE-DIR")]
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
