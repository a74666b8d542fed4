//! Durable reservations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, AsFound, Code, Fingerprint, Mechanism, Partition, Refusal};

/// Who holds a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The kind of owner: `instance`, `person`, `pod`, ...
    pub kind: String,
    /// Which one.
    pub id: String,
}

impl Owner {
    /// The kind of owner that an instance is.
    pub const INSTANCE: &'static str = "instance";

    /// The owner of an instance's claims.
    #[must_use]
    pub fn instance(id: Uuid) -> Self {
        Self { kind: Self::INSTANCE.into(), id: id.to_string() }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

impl FromStr for Owner {
    type Err = Refusal;

    /// Reads `KIND/ID`. A kind is one word in lower case, so that the two are told apart; an id is any short text.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let right = |kind: &str, id: &str| {
            let word =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (1..=32).contains(&kind.len())
                && kind.bytes().all(word)
                && (1..=253).contains(&id.len())
                && !id.chars().any(char::is_control)
        };
        text.split_once('/')
            .filter(|(kind, id)| right(kind, id))
            .map(|(kind, id)| Self { kind: kind.into(), id: id.into() })
            .ok_or_else(|| {
                Refusal::new(
                    Code::InvalidRequest,
                    format!("{text:?} is no owner"),
                    "write it as KIND/ID, such as pod/web-1 or person/anna",
                )
            })
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

impl ClaimedMember {
    /// A member of which nothing is known but its place.
    #[must_use]
    pub const fn unknown(address: Address) -> Self {
        Self { address, role: Role::Guest, fingerprint: Fingerprint::unknown(), as_found: None }
    }
}

/// One thing of a claim: an assembly, or a part of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The function that was asked for; the parent of a mediated device.
    pub head: Address,
    /// What it is, where it is a part of a device and not a device as a whole.
    pub partition: Option<Partition>,
    /// The functions that go with it; of a mediated device there are none.
    pub members: Vec<ClaimedMember>,
    /// Whether they are reserved for machines at each boot, for as long as the claim lasts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_boot: bool,
}

/// A durable reservation of assemblies and parts of devices by one owner: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim's id.
    pub id: Uuid,
    /// Who holds it.
    pub owner: Owner,
    /// What for, in the owner's words.
    pub reason: Option<String>,
    /// When it ends by itself, in seconds since 1970, where it was given for a time only.
    pub expires: Option<u64>,
    /// What it holds.
    pub parts: Vec<Part>,
    /// How far it is.
    pub state: ClaimState,
    /// The boot in which it was last prepared: an earlier boot's bindings are gone.
    pub boot_id: Option<String>,
}

impl Part {
    /// The members that go into the machine, in the order of their addresses.
    pub fn guests(&self) -> impl Iterator<Item = &ClaimedMember> {
        self.members.iter().filter(|member| member.role == Role::Guest)
    }

    /// The functions that it takes from the host.
    pub fn taken(&self) -> impl Iterator<Item = Address> {
        let taken = self.members.iter().filter(|member| member.role != Role::Bystander);
        taken.map(|member| member.address)
    }

    /// Whether the functions are moved to a vfio driver: a vGPU's stay on their vendor's.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !matches!(
            self.partition.as_ref().map(|partition| &partition.how),
            Some(Mechanism::Mdev { .. } | Mechanism::Vgpu { .. })
        )
    }

    /// Where two parts exclude each other: a function that both would have, or the parent of one that the other would
    /// take from the host. Assemblies that share a bystander share a group, and so exclude each other too.
    #[must_use]
    pub fn conflict(&self, other: &Self) -> Option<Address> {
        let shared = self.members.iter().map(|member| member.address);
        let shared = shared.into_iter().find(|address| other.has(*address));
        // One that is still to be named is another than any.
        let mdev = |part: &Self| {
            let uuid = part.partition.as_ref().and_then(Partition::mdev);
            uuid.filter(|uuid| !uuid.is_nil())
        };
        let same = mdev(self).is_some() && mdev(self) == mdev(other);
        shared
            .or_else(|| other.pins().filter(|parent| self.taken().any(|own| own == *parent)))
            .or_else(|| self.pins().filter(|parent| other.taken().any(|own| own == *parent)))
            .or_else(|| same.then_some(self.head))
    }

    /// The device that it is a part of, which must stay as it is.
    #[must_use]
    pub fn pins(&self) -> Option<Address> {
        self.partition.as_ref().map(|partition| partition.parent)
    }

    fn has(&self, address: Address) -> bool {
        self.members.iter().any(|member| member.address == address)
    }
}

impl Claim {
    /// Whether its mediated devices are to be written down for mdevctl.
    #[must_use]
    pub fn is_defined(&self) -> bool {
        let mut partitions = self.parts.iter().filter_map(|part| part.partition.as_ref());
        partitions.any(Partition::is_defined)
    }

    /// Whether its devices are reserved for machines at each boot.
    #[must_use]
    pub fn is_at_boot(&self) -> bool {
        self.parts.iter().any(|part| part.at_boot)
    }

    /// All functions of it, in whatever role.
    pub fn members(&self) -> impl Iterator<Item = &ClaimedMember> {
        self.parts.iter().flat_map(|part| &part.members)
    }

    /// The function that was asked for first, for messages.
    #[must_use]
    pub fn head(&self) -> Option<Address> {
        self.parts.first().map(|part| part.head)
    }

    /// The functions that it takes from the host.
    pub fn taken(&self) -> impl Iterator<Item = Address> {
        self.parts.iter().flat_map(Part::taken)
    }

    /// Whether a function belongs to it, in whatever role.
    #[must_use]
    pub fn covers(&self, address: Address) -> bool {
        self.parts.iter().any(|part| part.has(address))
    }

    /// Whether it takes a function from the host.
    #[must_use]
    pub fn holds(&self, address: Address) -> bool {
        self.taken().any(|taken| taken == address)
    }

    /// Whether it keeps a function as it is because something of it is claimed.
    #[must_use]
    pub fn pins(&self, address: Address) -> bool {
        self.parts.iter().any(|part| part.pins() == Some(address))
    }

    /// Where two claims exclude each other.
    #[must_use]
    pub fn conflict(&self, part: &Part) -> Option<Address> {
        self.parts.iter().find_map(|own| own.conflict(part))
    }
}
