//! Disks and virtual network cards that a running machine gets and loses. Each is behind a port for devices, and keeps it over a
//! stop; those that a machine was created with have ports of their own for good.

use uuid::Uuid;

use super::{DiskFile, NetworkCard, PartKind, PartPlace};

/// A part for a running machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPlug {
    /// The machine.
    pub id: Uuid,
    /// The number of the port that it gets.
    pub port: u32,
    /// The part.
    pub part: NewPart,
}

/// The part itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPart {
    /// A disk, with its file.
    Disk(DiskFile),
    /// A network card.
    Card(NetworkCard),
}

impl PartPlug {
    /// Where the machine has it then.
    #[must_use]
    pub const fn place(&self) -> PartPlace {
        let kind = match self.part {
            NewPart::Disk(_) => PartKind::Disk,
            NewPart::Card(_) => PartKind::Card,
        };
        PartPlace { port: self.port, kind }
    }
}
