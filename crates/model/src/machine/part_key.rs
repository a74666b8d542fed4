//! What disks and virtual network cards are known by that a running machine gets and loses.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Mac;

/// What a disk or a network card of a machine is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKey {
    /// A disk, by its serial number.
    Disk(String),
    /// A network card, by its hardware address.
    Card(Mac),
}

impl fmt::Display for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(serial) => write!(f, "the disk {serial}"),
            Self::Card(mac) => write!(f, "the network card {mac}"),
        }
    }
}

/// The kinds of these parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// A disk.
    Disk,
    /// A network card.
    Card,
}

impl PartKind {
    /// What it is called.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Card => "network card",
        }
    }
}

/// Where a running machine has a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPlace {
    /// The number of its port among those for devices.
    pub port: u32,
    /// What it is.
    pub kind: PartKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_stored_by_what_the_guest_knows_it_by() {
        let disk = PartKey::Disk("data".into());
        let card = PartKey::Card("52:54:00:12:34:56".parse().unwrap());
        assert_eq!(disk.to_string(), "the disk data");
        assert_eq!(card.to_string(), "the network card 52:54:00:12:34:56");
        for key in [disk, card] {
            let text = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<PartKey>(&text).unwrap(), key, "{text}");
        }
    }
}
