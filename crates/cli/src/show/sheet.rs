//! All that is known of one function, and what follows from it.

use std::collections::BTreeSet;

use model::doctor::Finding;
use model::{
    Address, Assembly, Function, Group, Holder, Inventory, Kind, Link, NumaNode, PortType, Refusal,
    ResetDomain,
};
use serde::Serialize;

/// One function with its surroundings.
#[derive(Debug, Serialize)]
pub struct Sheet<'a> {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// The function as it was read.
    pub function: &'a Function,
    /// The bridges above it, from the root bus down.
    pub bridges: Vec<Bridge<'a>>,
    /// Its NUMA node.
    pub numa_node: Option<&'a NumaNode>,
    /// Its IOMMU group.
    pub group: Option<&'a Group>,
    /// What is handed over with it.
    pub members: Vec<Member<'a>>,
    /// What its reset hits.
    pub reset_domain: ResetDomain,
    /// Who uses it, or what is handed over with it.
    pub holders: Vec<&'a Holder>,
    /// Why it cannot be handed over; empty where it can be.
    pub obstacles: Vec<Refusal>,
    /// Framebuffers of the firmware's that lie on its BARs, or on those of what is handed over with it.
    pub framebuffers: Vec<Finding>,
}

/// A bridge on the way to a function.
#[derive(Debug, Serialize)]
pub struct Bridge<'a> {
    /// Where it is.
    pub address: Address,
    /// Its name; `None` where it could not be read.
    pub name: Option<String>,
    /// What it is in the PCI Express tree.
    pub port_type: Option<PortType>,
    /// The link below a port, or above an upstream port.
    pub link: Option<&'a Link>,
    /// Whether Access Control Services keep apart what is below it; `None` where it has none or they could not be read.
    pub isolates: Option<bool>,
}

/// A member of the assembly.
#[derive(Debug, Serialize)]
pub struct Member<'a> {
    /// Where it is, why, and its role.
    #[serde(flatten)]
    pub member: model::Member,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Option<&'a str>,
}

impl<'a> Sheet<'a> {
    /// The sheet of a function.
    pub fn of(inventory: &'a Inventory, function: &'a Function, holders: &'a [Holder]) -> Self {
        let assembly = Assembly::of(inventory, function.address);
        let taken: BTreeSet<Address> =
            assembly.iter().flat_map(Assembly::taken).map(|member| member.address).collect();
        let obstacles =
            assembly.as_ref().map(|assembly| assembly.obstacles(inventory)).unwrap_or_default();
        let members = assembly.into_iter().flat_map(|assembly| assembly.members);
        let node = function.numa_node.and_then(|node| inventory.numa_nodes.get(&node));
        Self {
            name: function.title(),
            kind: function.kind(),
            function,
            bridges: function.path.iter().map(|bridge| Bridge::of(inventory, *bridge)).collect(),
            numa_node: node,
            group: function.iommu_group.and_then(|number| inventory.groups.get(&number)),
            members: members.filter_map(|member| Member::of(inventory, member)).collect(),
            reset_domain: ResetDomain::of(inventory, function),
            holders: holders.iter().filter(|holder| taken.contains(&holder.address)).collect(),
            obstacles,
            framebuffers: Vec::new(),
        }
    }
}

impl<'a> Bridge<'a> {
    fn of(inventory: &'a Inventory, address: Address) -> Self {
        let bridge = inventory.function(address);
        let detail = bridge.and_then(|bridge| bridge.detail.as_deref());
        Self {
            address,
            name: bridge.map(Function::title),
            port_type: detail.and_then(|detail| detail.port_type),
            link: detail.and_then(|detail| detail.link.as_ref()),
            isolates: detail.and_then(|detail| detail.acs).map(model::Acs::isolates),
        }
    }
}

impl<'a> Member<'a> {
    fn of(inventory: &'a Inventory, member: model::Member) -> Option<Self> {
        let function = inventory.function(member.address)?;
        Some(Self { member, name: function.title(), driver: function.driver.as_deref() })
    }
}
