//! Assemblies: what must be handed over together with a function, and the obstacles.

mod companions;
mod obstacles;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use obstacles::{VIRTUAL_IOMMU, no_such_function, power_cycle};

use crate::{Address, Function, Inventory, Kind, Role};
use companions::companions;

/// Drivers that do not manage DMA, so that they may stay bound in a group that VFIO uses (`driver_managed_dma` in the
/// kernel's pcieport and pci-stub drivers).
const HARMLESS_DRIVERS: [&str; 2] = ["pcieport", "pci-stub"];

/// The functions that are handed over together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembly {
    /// The requested function.
    pub head: Address,
    /// All members, the head among them, by address.
    pub members: Vec<Member>,
}

/// One member of an assembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its address.
    pub address: Address,
    /// Its role in the hand-over.
    pub role: Role,
    /// Why it is a member, in words.
    pub reason: String,
}

impl Assembly {
    /// The assembly of `head`: its IOMMU group and, for a display function that is no VF, the other functions of its card
    /// with their groups, closed transitively; and what exists only by the driver of a member.
    ///
    /// `None` if the inventory has no such function.
    #[must_use]
    pub fn of(inventory: &Inventory, head: Address) -> Option<Self> {
        let function = inventory.function(head)?;
        Some(Self::with(inventory, function, companions(inventory, function)))
    }

    /// The assembly of `head` without its companions in other groups (`--alone`).
    #[must_use]
    pub fn alone(inventory: &Inventory, head: Address) -> Option<Self> {
        inventory.function(head).map(|function| Self::with(inventory, function, Vec::new()))
    }

    fn with(inventory: &Inventory, function: &Function, companions: Vec<&Function>) -> Self {
        let head = function.address;
        let mut members =
            vec![Member { address: head, role: Role::Guest, reason: "asked for".into() }];
        for companion in companions {
            members.push(Member {
                address: companion.address,
                role: Role::Guest,
                reason: format!("{} function of the same card", companion.kind()),
            });
        }
        let groups: BTreeSet<u32> = members
            .iter()
            .filter_map(|member| inventory.function(member.address)?.iommu_group)
            .collect();
        let mut known: BTreeSet<Address> = members.iter().map(|member| member.address).collect();
        for number in groups {
            let Some(group) = inventory.groups.get(&number) else { continue };
            for address in &group.members {
                if !known.insert(*address) {
                    continue;
                }
                let Some(other) = inventory.function(*address) else { continue };
                members.push(group_member(function, other, number));
            }
        }
        add_dependents(inventory, &mut members);
        members.sort_by_key(|member| member.address);
        Self { head, members }
    }

    /// The assemblies of a whole host, sorted by the address of their heads: each function is taken in one of them.
    /// Display functions are preferred as heads, so that an audio function belongs to its card; bridges come last. A
    /// VF always has an assembly of its own.
    #[must_use]
    pub fn all(inventory: &Inventory) -> Vec<Self> {
        let mut candidates: Vec<(usize, Address)> = inventory
            .functions
            .values()
            .map(|function| {
                let rank = Kind::ALL.iter().position(|kind| *kind == function.kind());
                (rank.unwrap_or(Kind::ALL.len()), function.address)
            })
            .collect();
        candidates.sort_unstable();
        let mut taken = BTreeSet::new();
        let mut assemblies = Vec::new();
        for (_, head) in candidates {
            let is_vf = inventory.function(head).is_some_and(|f| f.physical_function.is_some());
            if taken.contains(&head) && !is_vf {
                continue;
            }
            let Some(assembly) = Self::of(inventory, head) else { continue };
            taken.extend(assembly.taken().map(|member| member.address));
            assemblies.push(assembly);
        }
        assemblies.sort_by_key(|assembly| assembly.head);
        assemblies
    }

    /// The members that go into the machine.
    pub fn guests(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.role == Role::Guest)
    }

    /// The members whose users on the host would lose them: those that are taken, and what goes away with them.
    pub fn lost(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.role != Role::Bystander)
    }

    /// The members that the hand-over takes from the host: those for the guest and those held.
    pub fn taken(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.role.is_taken())
    }
}

/// The role of a function that is in the group of an assembly.
fn group_member(head: &Function, other: &Function, group: u32) -> Member {
    let address = other.address;
    // Taking this driver would remove the head itself: an obstacle says so.
    if head.exists_by() == Some(address) {
        let driver = other.driver.as_deref().unwrap_or("no driver");
        let reason = format!("{} exists only as long as it is on {driver}", head.address);
        return Member { address, role: Role::Bystander, reason };
    }
    if head.behind.is_some() && head.behind == other.behind {
        let reason = format!("in IOMMU group {group}, like all functions of its PCI domain");
        return Member { address, role: Role::Bystander, reason };
    }
    let harmless = other.driver.as_deref().is_none_or(|d| HARMLESS_DRIVERS.contains(&d));
    // An NVSwitch (class 0680) may have no driver, but must not stay reachable in the group.
    let fabric = other.class.prefix() == 0x0680;
    if harmless && !fabric {
        let reason = other.driver.as_deref().map_or_else(
            || format!("in IOMMU group {group}, without a driver"),
            |driver| format!("in IOMMU group {group}, on {driver}, which does not manage DMA"),
        );
        return Member { address, role: Role::Bystander, reason };
    }
    let reason = if address.same_slot(head.address) {
        format!("other function of the slot, in IOMMU group {group}")
    } else {
        format!("in IOMMU group {group} with {}", head.address)
    };
    Member { address, role: Role::Held, reason }
}

/// Adds what exists only by the driver of a function that is taken, or changes its role if it is in the group too. A physical
/// function is not handed over while it has VFs, so VFs in other groups are not added.
fn add_dependents(inventory: &Inventory, members: &mut Vec<Member>) {
    let taken: BTreeSet<Address> =
        members.iter().filter(|member| member.role.is_taken()).map(|m| m.address).collect();
    let dependent = |function: &Function| {
        let above = function.exists_by().filter(|above| taken.contains(above))?;
        let driver = inventory.function(above).and_then(|above| above.driver.as_deref());
        let driver = driver.unwrap_or("its driver");
        let reason = format!("exists only as long as {above} is on {driver}");
        Some(Member { address: function.address, role: Role::Dependent, reason })
    };
    for member in members.iter_mut() {
        let own = inventory.function(member.address).and_then(dependent);
        *member = own.unwrap_or_else(|| member.clone());
    }
    // Only PCI domains that drivers create have such numbers (`vmd_find_free_domain` in drivers/pci/controller/vmd.c).
    let Some(first) = Address::new(0x1_0000, 0, 0, 0) else { return };
    let created = inventory.functions.range(first..).map(|(_, function)| function);
    let others: Vec<Member> = created
        .filter(|function| members.iter().all(|known| known.address != function.address))
        .filter_map(dependent)
        .collect();
    members.extend(others);
}
