//! The listing: assemblies with their members and states.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Address, Assembly, Class, Code, Function, Holder, Id, Inventory, Kind, Member, OwnState,
    Refusal, Role,
};
use serde::Serialize;

use super::parts::Parts;
use crate::filter::Filter;

/// Which assemblies to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Include what can never be handed over.
    pub all: bool,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only assemblies with a function that matches all of these.
    pub filters: &'a [Filter],
    /// With the vGPUs of cards.
    pub parts: bool,
}

/// The listing.
#[derive(Debug, Serialize)]
pub struct Listing<'a> {
    /// The assemblies, by address.
    pub assemblies: Vec<Row<'a>>,
    /// How many assemblies that can never be handed over are omitted.
    #[serde(skip)]
    pub hidden: usize,
    /// Whether the host has more than one NUMA node.
    #[serde(skip)]
    pub numa: bool,
    /// Whether users of devices can be missing.
    #[serde(skip)]
    pub users_hidden: bool,
}

/// One assembly.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// The address of its head.
    pub address: Address,
    /// The head's kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Vendor id.
    pub vendor_id: Id,
    /// Device id.
    pub device_id: Id,
    /// Subsystem vendor id.
    pub subsystem_vendor_id: Option<Id>,
    /// Subsystem id.
    pub subsystem_device_id: Option<Id>,
    /// Class code.
    pub class: Class,
    /// Revision.
    pub revision: u8,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// The driver bound to it.
    pub driver: Option<&'a str>,
    /// The physical function of a virtual function.
    pub physical_function: Option<Address>,
    /// Whether it can be handed over.
    pub state: State,
    /// What the host itself shows on it, in words: `host console`, `management display`. A kind of device does not mean it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts_display: Option<&'static str>,
    /// Its users, in words.
    pub used_by: Vec<String>,
    /// The owners of the claims that have it or partitions of it, in words.
    pub claimed_by: Vec<String>,
    /// The name of the registered device.
    pub registered_name: Option<String>,
    /// Why it cannot be handed over.
    pub obstacles: Vec<Refusal>,
    /// Whether it exists only by the driver of a member of its assembly: then nothing is handed over with it.
    #[serde(skip)]
    pub is_behind_another: bool,
    /// The other members of the assembly.
    pub members: Vec<MemberRow<'a>>,
    /// The vGPUs of the card, if they are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vgpus: Option<Parts>,
}

/// Whether an assembly can be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A claim has it, or partitions of it.
    Claimed,
    /// A step on it timed out, or could not be undone: it needs manual attention.
    Wedged,
    /// It failed its check: it needs manual attention.
    Quarantined,
    /// It can be handed over.
    Free,
    /// It is in use.
    InUse,
    /// It is on a vfio driver and not in use.
    OnVfio,
    /// It cannot be handed over.
    Impossible,
}

/// A function of an assembly other than the head.
#[derive(Debug, Serialize)]
pub struct MemberRow<'a> {
    /// Its address.
    pub address: Address,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// The driver bound to it.
    pub driver: Option<&'a str>,
    /// Its role in the hand-over.
    pub role: Role,
    /// Why it is a member.
    pub reason: String,
}

impl<'a> Listing<'a> {
    /// Lists the wanted assemblies of a host.
    pub fn of(
        inventory: &'a Inventory,
        holders: &[Holder],
        own: &OwnState,
        wanted: &Wanted<'_>,
    ) -> Self {
        let mut users: BTreeMap<Address, Vec<&Holder>> = BTreeMap::new();
        for holder in holders {
            users.entry(holder.address).or_default().push(holder);
        }
        let nodes: BTreeSet<u32> =
            inventory.functions.values().filter_map(|function| function.numa_node).collect();
        let numa = inventory.numa_nodes.len() > 1 || nodes.len() > 1;
        let mut listing = Self { assemblies: Vec::new(), hidden: 0, numa, users_hidden: false };
        for assembly in Assembly::all(inventory) {
            let Some(head) = inventory.function(assembly.head) else { continue };
            if !wanted.includes(inventory, head, &assembly) {
                continue;
            }
            let hidden = assembly.is_of_the_host(inventory) && !wanted.all;
            let mut row = Row::of(inventory, &users, own, head, assembly);
            row.vgpus = wanted.parts.then(|| Parts::of(inventory, own, head)).flatten();
            if !hidden || wanted.kind == Some(Kind::Bridge) {
                listing.assemblies.push(row);
            } else {
                listing.hidden += 1;
            }
        }
        listing
    }
}

impl<'a> Row<'a> {
    fn of(
        inventory: &'a Inventory,
        users: &BTreeMap<Address, Vec<&Holder>>,
        own: &OwnState,
        head: &'a Function,
        assembly: Assembly,
    ) -> Self {
        let mut obstacles = assembly.obstacles(inventory);
        let claimed_by: Vec<String> =
            own.claims_of(&assembly).map(|(existing, share)| existing.words(share)).collect();
        let unhealthy = own.attention(&assembly);
        if !claimed_by.is_empty() {
            // Partitions of a claim are released, never removed.
            obstacles.retain(|obstacle| obstacle.code != Code::InUse);
        }
        obstacles.extend(unhealthy.iter().map(|unhealthy| unhealthy.why.clone()));
        let holders = assembly.lost().filter_map(|member| users.get(&member.address)).flatten();
        let mut said = BTreeSet::new();
        let used_by: Vec<String> = holders
            .filter(|holder| said.insert((&holder.user, &holder.by)))
            .map(|holder| holder.user_and_use())
            .collect();
        let state = if let Some(unhealthy) = unhealthy {
            if unhealthy.word == "wedged" { State::Wedged } else { State::Quarantined }
        } else if !claimed_by.is_empty() {
            State::Claimed
        } else if !obstacles.is_empty() {
            State::Impossible
        } else if !used_by.is_empty() {
            State::InUse
        } else if head.on_vfio() {
            State::OnVfio
        } else {
            State::Free
        };
        let others = assembly.members.into_iter().filter(|member| member.address != head.address);
        Self {
            address: head.address,
            kind: head.kind(),
            name: head.title(),
            vendor_id: head.vendor,
            device_id: head.device,
            subsystem_vendor_id: head.subsystem_vendor,
            subsystem_device_id: head.subsystem_device,
            class: head.class,
            revision: head.revision,
            iommu_group: head.iommu_group,
            numa_node: head.numa_node,
            driver: head.driver.as_deref(),
            physical_function: head.physical_function,
            state,
            hosts_display: head.hosts_display(),
            used_by,
            claimed_by,
            is_behind_another: head.behind.is_some(),
            registered_name: own.names.get(&head.address).cloned(),
            obstacles,
            members: others.filter_map(|member| MemberRow::of(inventory, member)).collect(),
            vgpus: None,
        }
    }
}

impl<'a> MemberRow<'a> {
    fn of(inventory: &'a Inventory, member: Member) -> Option<Self> {
        let function = inventory.function(member.address)?;
        Some(Self {
            address: member.address,
            kind: function.kind(),
            name: function.title(),
            iommu_group: function.iommu_group,
            driver: function.driver.as_deref(),
            role: member.role,
            reason: member.reason,
        })
    }
}

impl Wanted<'_> {
    /// Whether a function of the assembly matches the filters. Bystanders do not count: they have rows of their own.
    fn includes(&self, inventory: &Inventory, head: &Function, assembly: &Assembly) -> bool {
        if self.kind.is_some_and(|kind| kind != head.kind()) {
            return false;
        }
        self.filters.is_empty()
            || assembly
                .taken()
                .filter_map(|member| inventory.function(member.address))
                .any(|function| Filter::all_match(self.filters, function))
    }
}
