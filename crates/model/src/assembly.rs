//! What must be handed over together with a function, and why some of it cannot be.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Address, Code, Function, Inventory, Kind, Refusal, Role};

/// Drivers that leave their device's DMA alone, so that they may stay bound beside VFIO in one group
/// (`driver_managed_dma` in the kernel's pcieport and pci-stub drivers).
const HARMLESS_DRIVERS: [&str; 2] = ["pcieport", "pci-stub"];

/// Everything that goes together with one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembly {
    /// The function that was asked for.
    pub head: Address,
    /// All members, the head among them, by address.
    pub members: Vec<Member>,
}

/// One member of an assembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it is.
    pub address: Address,
    /// Its part in the hand-over.
    pub role: Role,
    /// Why it is a member, for a person.
    pub reason: String,
}

impl Assembly {
    /// The assembly of `head`: its IOMMU group and, for a display function that is no VF, the companions in its slot
    /// with their groups, closed transitively.
    ///
    /// `None` where the inventory has no such function.
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
        members.sort_by_key(|member| member.address);
        Self { head, members }
    }

    /// The assemblies of a whole host, by the address of their heads: each function is taken in one of them. Display
    /// functions come first when heads are chosen, so that an audio function goes with its card; a bridge is nobody's
    /// first choice.
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
            if taken.contains(&head) {
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

    /// The members that the hand-over takes from the host: those for the guest and those held.
    pub fn taken(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.role != Role::Bystander)
    }

    /// Every reason why this assembly cannot be handed over on this host; empty where it can be.
    #[must_use]
    pub fn obstacles(&self, inventory: &Inventory) -> Vec<Refusal> {
        let Some(head) = inventory.function(self.head) else {
            return vec![no_such_function(self.head)];
        };
        if head.kind() == Kind::Bridge {
            return vec![Refusal::new(
                Code::NotAssignable,
                format!(
                    "{} is a PCI bridge: it is part of the host and cannot be given to a machine",
                    self.head
                ),
                "choose a device behind it; `handover ls` shows what can be handed over",
            )];
        }
        let mut reasons = host_obstacles(inventory, head);
        for member in self.taken() {
            if let Some(function) = inventory.function(member.address) {
                reasons.extend(member_obstacle(self.head, function));
            }
        }
        reasons
    }
}

/// The refusal for an address where nothing is.
#[must_use]
pub fn no_such_function(address: Address) -> Refusal {
    Refusal::new(
        Code::DeviceNotFound,
        format!("there is no PCI function at {address}"),
        "`handover ls --all` shows what this host has; addresses can change between boots",
    )
}

/// The functions that belong to the same card as a display function (audio, USB, UCSI). VFs and the ports of a NIC
/// have none.
fn companions<'a>(inventory: &'a Inventory, head: &Function) -> Vec<&'a Function> {
    if head.kind() != Kind::Gpu || head.physical_function.is_some() {
        return Vec::new();
    }
    inventory
        .slot_siblings(head.address)
        .filter(|other| other.physical_function.is_none() && other.kind() != Kind::Bridge)
        .collect()
}

/// What a function is to the assembly that its group drags it into.
fn group_member(head: &Function, other: &Function, group: u32) -> Member {
    let address = other.address;
    let harmless = other.driver.as_deref().is_none_or(|d| HARMLESS_DRIVERS.contains(&d));
    // An NVSwitch (class 0680) has no driver at times and is still a device that must not be left in reach.
    let fabric = other.class.prefix() == 0x0680;
    if harmless && !fabric {
        let reason = other.driver.as_deref().map_or_else(
            || format!("in IOMMU group {group}, without a driver"),
            |driver| format!("in IOMMU group {group}, on {driver}, which leaves DMA alone"),
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

/// What stands in the way of any hand-over of this function on this host.
fn host_obstacles(inventory: &Inventory, head: &Function) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    if inventory.vfio.unsafe_noiommu {
        reasons.push(Refusal::new(
            Code::NoIommu,
            "vfio's unsafe noiommu mode is switched on: a machine could then write all of the host's memory",
            "echo 0 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and remove the option from /etc/modprobe.d",
        ));
    }
    if !inventory.vfio.iommu {
        reasons.push(Refusal::new(
            Code::NoIommu,
            "this kernel has no IOMMU switched on, so no device can be kept apart from the host's memory",
            "switch on VT-d or AMD-Vi in the firmware; on Intel also boot with intel_iommu=on on the kernel's command line",
        ));
    } else if head.iommu_group.is_none() {
        reasons.push(Refusal::new(
            Code::NoIommu,
            format!("{} is in no IOMMU group, so the IOMMU does not cover it", head.address),
            "look for its IOMMU in `dmesg | grep -i -e DMAR -e AMD-Vi`; firmware tables may leave it out",
        ));
    }
    if !inventory.vfio.vfio_pci || !inventory.vfio.type1 {
        reasons.push(Refusal::new(
            Code::VfioMissing,
            "this kernel has no usable VFIO: vfio-pci or vfio_iommu_type1 is neither loaded nor can it be loaded",
            "modprobe -a vfio-pci vfio_iommu_type1; where they are missing, install the distribution's full kernel image",
        ));
    }
    reasons
}

/// What stands in the way of taking one member from the host.
fn member_obstacle(head: Address, function: &Function) -> Option<Refusal> {
    let address = function.address;
    if !function.virtual_functions().is_empty() {
        return Some(Refusal::new(
            Code::InUse,
            format!(
                "{address} has {} virtual functions: a device as a whole and its parts exclude each other",
                function.virtual_functions().len()
            ),
            format!("hand over one of its VFs, or remove them: handover sriov set {address} 0"),
        ));
    }
    if !function.mdevs.is_empty() {
        return Some(Refusal::new(
            Code::InUse,
            format!(
                "{address} is the parent of {} mediated devices: a device as a whole and its parts exclude each other",
                function.mdevs.len()
            ),
            format!(
                "remove them when nobody uses them: echo 1 > /sys/bus/mdev/devices/UUID/remove, for each; \
                 `handover show {address}` lists them"
            ),
        ));
    }
    // Host and ISA bridges (0600, 0601) carry the firmware's and the chipset's own business.
    let fabric = matches!(function.class.prefix(), 0x0600 | 0x0601);
    if !fabric {
        return None;
    }
    let driver = function.driver.as_deref().unwrap_or("no driver");
    Some(if address == head {
        Refusal::new(
            Code::NotAssignable,
            format!("{address} is one of the host's own bridges and cannot be given to a machine"),
            "choose a device; `handover ls` shows what can be handed over",
        )
    } else {
        Refusal::new(
            Code::NotAssignable,
            format!(
                "{head} shares its IOMMU group with {address}, a bridge of the host itself (on {driver})"
            ),
            "move the card to a slot with its own IOMMU group; `handover ls --all` shows the groups",
        )
    })
}
