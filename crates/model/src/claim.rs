//! Claims: durable reservations.

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
    /// Its id.
    pub id: String,
}

impl Owner {
    /// The kind of owner of an instance's claims.
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

    /// Parses `KIND/ID`. A kind is one lower-case word, so it contains no slash; an id is any short text.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let right = |kind: &str, id: &str| {
            let word =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (1..=32).contains(&kind.len())
                && kind.bytes().all(word)
                && (1..=253).contains(&id.chars().count())
                && !id.chars().any(char::is_control)
        };
        text.split_once('/')
            .filter(|(kind, id)| right(kind, id))
            .map(|(kind, id)| Self { kind: kind.into(), id: id.into() })
            .ok_or_else(|| {
                Refusal::new(
                    Code::InvalidRequest,
                    format!("{text:?} is not a valid owner"),
                    "use the form KIND/ID, such as pod/web-1 or person/anna",
                )
            })
    }
}

/// The state of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimState {
    /// No other claim can have the assembly; the host is unchanged.
    Reserved,
    /// The assembly is bound to vfio and can be attached to a machine.
    Prepared,
    /// A step could neither be finished nor undone; a worker may still be blocked in the kernel.
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

/// The role of a member of an assembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Goes into the machine.
    Guest,
    /// Bound to a vfio driver so that its group is viable, and not shown to the guest.
    Held,
    /// Left unchanged: no driver, or one that does not manage DMA (`pcieport`).
    Bystander,
    /// Exists only by the driver of a function that is taken, and goes away with it: a drive behind VMD.
    Dependent,
}

impl Role {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Held => "held",
            Self::Bystander => "bystander",
            Self::Dependent => "dependent",
        }
    }

    /// Whether the hand-over takes a function of this role from its driver.
    #[must_use]
    pub const fn is_taken(self) -> bool {
        matches!(self, Self::Guest | Self::Held)
    }
}

/// One function of a claimed assembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedMember {
    /// Its address.
    pub address: Address,
    /// Its role in the hand-over.
    pub role: Role,
    /// Its fingerprint when it was claimed; if it has changed, the function is not touched.
    pub fingerprint: Fingerprint,
    /// The state to restore, once the claim has been prepared.
    pub as_found: Option<AsFound>,
}

impl ClaimedMember {
    /// A member of which only the address is known.
    #[must_use]
    pub const fn unknown(address: Address) -> Self {
        Self { address, role: Role::Guest, fingerprint: Fingerprint::unknown(), as_found: None }
    }
}

/// One part of a claim: an assembly or a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The requested function; for a mediated device, its parent.
    pub head: Address,
    /// The partition; `None` for a whole device.
    pub partition: Option<Partition>,
    /// The functions of the assembly; empty for a mediated device.
    pub members: Vec<ClaimedMember>,
    /// Whether they stay on the boot list while the claim exists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_boot: bool,
}

/// A durable reservation of assemblies and partitions by one owner: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim's id.
    pub id: Uuid,
    /// Who holds it.
    pub owner: Owner,
    /// The reason, in the owner's words.
    pub reason: Option<String>,
    /// When its lease expires, in seconds since 1970; `None` without a lease.
    pub expires: Option<u64>,
    /// The parts.
    pub parts: Vec<Part>,
    /// The state.
    pub state: ClaimState,
    /// The boot in which it was last prepared: bindings do not survive a reboot.
    pub boot_id: Option<String>,
}

impl Part {
    /// The members that go into the machine, in the order of their addresses.
    pub fn guests(&self) -> impl Iterator<Item = &ClaimedMember> {
        self.members.iter().filter(|member| member.role == Role::Guest)
    }

    /// The functions that it takes from the host.
    pub fn taken(&self) -> impl Iterator<Item = Address> {
        let taken = self.members.iter().filter(|member| member.role.is_taken());
        taken.map(|member| member.address)
    }

    /// The functions whose users on the host would lose them: those that it takes, and what goes away with them.
    pub fn lost(&self) -> impl Iterator<Item = Address> {
        let lost = self.members.iter().filter(|member| member.role != Role::Bystander);
        lost.map(|member| member.address)
    }

    /// Whether the functions are bound to a vfio driver: those of a vGPU stay on their vendor's driver.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !matches!(
            self.partition.as_ref().map(|partition| &partition.how),
            Some(Mechanism::Mdev { .. } | Mechanism::Vgpu { .. })
        )
    }

    /// The function for which two parts exclude each other: one that both have, or the parent of one that the other
    /// takes from the host. Assemblies that share a bystander share a group, and so exclude each other too.
    #[must_use]
    pub fn conflict(&self, other: &Self) -> Option<Address> {
        let shared = self.members.iter().map(|member| member.address);
        let shared = shared.into_iter().find(|address| other.has(*address));
        // A mediated device without a UUID yet differs from all others.
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

    /// The parent of the partition, which must not change.
    #[must_use]
    pub fn pins(&self) -> Option<Address> {
        self.partition.as_ref().map(|partition| partition.parent)
    }

    fn has(&self, address: Address) -> bool {
        self.members.iter().any(|member| member.address == address)
    }
}

impl Claim {
    /// Whether mdevctl definitions are written for its mediated devices.
    #[must_use]
    pub fn is_defined(&self) -> bool {
        let mut partitions = self.parts.iter().filter_map(|part| part.partition.as_ref());
        partitions.any(Partition::is_defined)
    }

    /// Whether its devices are on the boot list.
    #[must_use]
    pub fn is_at_boot(&self) -> bool {
        self.parts.iter().any(|part| part.at_boot)
    }

    /// All its functions, in any role.
    pub fn members(&self) -> impl Iterator<Item = &ClaimedMember> {
        self.parts.iter().flat_map(|part| &part.members)
    }

    /// The first requested function, for messages.
    #[must_use]
    pub fn head(&self) -> Option<Address> {
        self.parts.first().map(|part| part.head)
    }

    /// The functions that it takes from the host.
    pub fn taken(&self) -> impl Iterator<Item = Address> {
        self.parts.iter().flat_map(Part::taken)
    }

    /// The functions whose users on the host would lose them.
    pub fn lost(&self) -> impl Iterator<Item = Address> {
        self.parts.iter().flat_map(Part::lost)
    }

    /// Whether a function belongs to it, in any role.
    #[must_use]
    pub fn covers(&self, address: Address) -> bool {
        self.parts.iter().any(|part| part.has(address))
    }

    /// Whether it takes a function from the host.
    #[must_use]
    pub fn holds(&self, address: Address) -> bool {
        self.taken().any(|taken| taken == address)
    }

    /// Whether it pins a function: one of its partitions is claimed.
    #[must_use]
    pub fn pins(&self, address: Address) -> bool {
        self.parts.iter().any(|part| part.pins() == Some(address))
    }

    /// The function for which the claim and the part exclude each other.
    #[must_use]
    pub fn conflict(&self, part: &Part) -> Option<Address> {
        self.parts.iter().find_map(|own| own.conflict(part))
    }
}
