//! Durable reservations.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, AsFound, Fingerprint};

/// Who holds a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The kind of owner: `instance`, `person`, `pod`, ...
    pub kind: String,
    /// Which one.
    pub id: String,
}

impl Owner {
    /// The owner of an instance's claims.
    #[must_use]
    pub fn instance(id: Uuid) -> Self {
        Self { kind: "instance".into(), id: id.to_string() }
    }
}

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimState {
    /// Nobody else can have the assembly; the host is as it was found.
    Reserved,
    /// The assembly is on vfio and can be given to a machine.
    Prepared,
    /// A step could neither be finished nor undone; a worker may still be in the kernel.
    Wedged,
}

impl ClaimState {
    /// The word on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Prepared => "prepared",
            Self::Wedged => "wedged",
        }
    }
}

/// What a member of an assembly is to the hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Goes into the machine.
    Guest,
    /// Bound to a vfio driver so that its group is viable, and not shown to the guest.
    Held,
    /// Left as it is: no driver, or one that leaves DMA alone (`pcieport`).
    Bystander,
}

impl Role {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Held => "held",
            Self::Bystander => "bystander",
        }
    }
}

/// One function of a claimed assembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedMember {
    /// Where it is.
    pub address: Address,
    /// Its part in the hand-over.
    pub role: Role,
    /// What it was when it was claimed; at another fingerprint it is not touched.
    pub fingerprint: Fingerprint,
    /// What to put back, once the claim has been prepared.
    pub as_found: Option<AsFound>,
}

/// A durable reservation of one assembly by one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim's id.
    pub id: Uuid,
    /// Who holds it.
    pub owner: Owner,
    /// The function that was asked for.
    pub head: Address,
    /// The whole assembly.
    pub members: Vec<ClaimedMember>,
    /// How far it is.
    pub state: ClaimState,
    /// The boot in which it was last prepared: an earlier boot's bindings are gone.
    pub boot_id: Option<String>,
}

impl Claim {
    /// The members that go into the machine, in the order of their addresses.
    pub fn guests(&self) -> impl Iterator<Item = &ClaimedMember> {
        self.members.iter().filter(|member| member.role == Role::Guest)
    }

    /// Whether a function belongs to the claimed assembly, in whatever role. Assemblies that share a member share a
    /// group, and so exclude each other.
    #[must_use]
    pub fn covers(&self, address: Address) -> bool {
        self.members.iter().any(|member| member.address == address)
    }

    /// Whether the claim takes a function from the host.
    #[must_use]
    pub fn holds(&self, address: Address) -> bool {
        self.members
            .iter()
            .any(|member| member.address == address && member.role != Role::Bystander)
    }
}
