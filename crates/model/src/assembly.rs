//! Assemblies: what must be handed over together with a function, and the obstacles.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Address, Code, Function, Inventory, Kind, Refusal, Role};

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
    /// The assembly of `head`: its IOMMU group and, for a display function that is no VF, the companions in its slot
    /// with their groups, closed transitively.
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
        members.sort_by_key(|member| member.address);
        Self { head, members }
    }

    /// The assemblies of a whole host, sorted by the address of their heads: each function is taken in one of them.
    /// Display functions are preferred as heads, so that an audio function belongs to its card; bridges come last.
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

    /// Every reason why this assembly cannot be handed over on this host; empty if it can.
    #[must_use]
    pub fn obstacles(&self, inventory: &Inventory) -> Vec<Refusal> {
        let Some(head) = inventory.function(self.head) else {
            return vec![no_such_function(self.head)];
        };
        if head.kind() == Kind::Bridge {
            return vec![Refusal::new(
                Code::NotAssignable,
                format!(
                    "{} is a PCI bridge, which is part of the host and cannot be handed over",
                    self.head
                ),
                "choose a device behind it; `handover ls` lists the devices that can be handed over",
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

/// The refusal for an address without a function.
#[must_use]
pub fn no_such_function(address: Address) -> Refusal {
    Refusal::new(
        Code::DeviceNotFound,
        format!("no PCI function at {address}"),
        "`handover ls --all` lists all functions; addresses can change between boots",
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

/// The role of a function that is in the group of an assembly.
fn group_member(head: &Function, other: &Function, group: u32) -> Member {
    let address = other.address;
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

/// Obstacles of the host for this function.
fn host_obstacles(inventory: &Inventory, head: &Function) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    if inventory.vfio.unsafe_noiommu {
        reasons.push(Refusal::new(
            Code::NoIommu,
            "vfio's unsafe noiommu mode is enabled: a machine could write to all of the host's memory",
            "echo 0 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and remove the option from /etc/modprobe.d",
        ));
    }
    if !inventory.vfio.iommu {
        reasons.push(Refusal::new(
            Code::NoIommu,
            "this kernel has no active IOMMU, so no device can be isolated from the host's memory",
            "enable VT-d or AMD-Vi in the firmware; on Intel, also boot with intel_iommu=on on the kernel's command \
             line",
        ));
    } else if head.iommu_group.is_none() {
        reasons.push(Refusal::new(
            Code::NoIommu,
            format!("{} is in no IOMMU group, so no IOMMU covers it", head.address),
            "check `dmesg | grep -i -e DMAR -e AMD-Vi` for its IOMMU; firmware tables may omit it",
        ));
    }
    if !inventory.vfio.vfio_pci || !inventory.vfio.type1 {
        reasons.push(Refusal::new(
            Code::VfioMissing,
            "this kernel has no usable VFIO: vfio-pci or vfio_iommu_type1 is not loaded and not available",
            "run `modprobe -a vfio-pci vfio_iommu_type1`; if they are missing, install the distribution's full kernel \
             image",
        ));
    }
    reasons
}

/// The obstacle of one member.
fn member_obstacle(head: Address, function: &Function) -> Option<Refusal> {
    let address = function.address;
    if !function.virtual_functions().is_empty() {
        return Some(Refusal::new(
            Code::InUse,
            format!(
                "{address} has {} virtual functions: a whole device and its partitions exclude each other",
                function.virtual_functions().len()
            ),
            format!("hand over one of its VFs, or remove them: handover sriov set {address} 0"),
        ));
    }
    if !function.mdevs.is_empty() {
        return Some(Refusal::new(
            Code::InUse,
            format!(
                "{address} is the parent of {} mediated devices: a whole device and its partitions exclude each other",
                function.mdevs.len()
            ),
            format!(
                "remove each one when it is unused: echo 1 > /sys/bus/mdev/devices/UUID/remove; `handover show \
                 {address}` lists them"
            ),
        ));
    }
    // Host and ISA bridges (0600, 0601) belong to the firmware and the chipset.
    let fabric = matches!(function.class.prefix(), 0x0600 | 0x0601);
    if !fabric {
        return None;
    }
    let driver = function.driver.as_deref().unwrap_or("no driver");
    Some(if address == head {
        Refusal::new(
            Code::NotAssignable,
            format!("{address} is a bridge of the host and cannot be handed over"),
            "choose a device; `handover ls` lists the devices that can be handed over",
        )
    } else {
        Refusal::new(
            Code::NotAssignable,
            format!(
                "{head} shares its IOMMU group with {address}, a bridge of the host (on {driver})"
            ),
            "move the card to a slot with its own IOMMU group; `handover ls --all` shows the groups",
        )
    })
}
