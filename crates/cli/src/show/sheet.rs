//! Everything that is known about one function.

use std::collections::BTreeSet;

use model::doctor::Finding;
use model::vgpu::own_name;
use model::{
    Address, Assembly, Code, Function, Group, Holder, Inventory, Kind, Link, Mechanism, NumaNode,
    OwnState, PortType, Refusal, ResetDomain,
};
use serde::Serialize;

/// A function with its surroundings.
#[derive(Debug, Serialize)]
pub struct Sheet<'a> {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The function, as read.
    pub function: &'a Function,
    /// The bridges above it, from the root bus down.
    pub bridges: Vec<Bridge<'a>>,
    /// Its NUMA node.
    pub numa_node: Option<&'a NumaNode>,
    /// Whether the host has NUMA nodes.
    #[serde(skip)]
    pub numa_host: bool,
    /// Its IOMMU group.
    pub group: Option<&'a Group>,
    /// Its assembly.
    pub members: Vec<Member<'a>>,
    /// Which functions its reset affects.
    pub reset_domain: ResetDomain,
    /// The users of its assembly.
    pub holders: Vec<&'a Holder>,
    /// Why it cannot be handed over; empty if it can.
    pub obstacles: Vec<Refusal>,
    /// The name of the registered device.
    pub registered_name: Option<String>,
    /// The profile of the vGPU that it is, by the name that requests take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vgpu_profile: Option<String>,
    /// Firmware framebuffers on the BARs of its assembly.
    pub framebuffers: Vec<Finding>,
}

/// A bridge on the path to a function.
#[derive(Debug, Serialize)]
pub struct Bridge<'a> {
    /// Its address.
    pub address: Address,
    /// Its name; `None` if it could not be read.
    pub name: Option<String>,
    /// Its port type.
    pub port_type: Option<PortType>,
    /// The link below a port, or above an upstream port.
    pub link: Option<&'a Link>,
    /// Whether Access Control Services (ACS) isolate what is below it; `None` if absent or unreadable.
    pub isolates: Option<bool>,
}

/// A member of the assembly.
#[derive(Debug, Serialize)]
pub struct Member<'a> {
    /// Its address, role, and why it is a member.
    #[serde(flatten)]
    pub member: model::Member,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Option<&'a str>,
}

impl<'a> Sheet<'a> {
    /// The sheet of a function.
    pub fn of(
        inventory: &'a Inventory,
        function: &'a Function,
        holders: &'a [Holder],
        own: &OwnState,
    ) -> Self {
        let assembly = Assembly::of(inventory, function.address);
        let lost: BTreeSet<Address> =
            assembly.iter().flat_map(Assembly::lost).map(|member| member.address).collect();
        let mut obstacles =
            assembly.as_ref().map(|assembly| assembly.obstacles(inventory)).unwrap_or_default();
        if let Some(own) = assembly.as_ref().and_then(|assembly| own.refusal(assembly)) {
            // Partitions of a claim are released, never removed.
            obstacles.retain(|obstacle| obstacle.code != Code::InUse);
            obstacles.push(own);
        }
        let members = assembly.into_iter().flat_map(|assembly| assembly.members);
        let node = function.numa_node.and_then(|node| inventory.numa_nodes.get(&node));
        Self {
            name: function.title(),
            kind: function.kind(),
            function,
            bridges: function.path.iter().map(|bridge| Bridge::of(inventory, *bridge)).collect(),
            numa_node: node,
            numa_host: !inventory.numa_nodes.is_empty(),
            group: function.iommu_group.and_then(|number| inventory.groups.get(&number)),
            members: members.filter_map(|member| Member::of(inventory, member)).collect(),
            reset_domain: ResetDomain::of(inventory, function),
            holders: holders.iter().filter(|holder| lost.contains(&holder.address)).collect(),
            obstacles,
            registered_name: own.names.get(&function.address).cloned(),
            vgpu_profile: vgpu_profile(inventory, function, own),
            framebuffers: Vec::new(),
        }
    }
}

/// The name of the type that a vGPU has: its own driver lists only types that it could become, so the name is that of a claim, or of
/// another virtual function of the same GPU.
fn vgpu_profile(inventory: &Inventory, function: &Function, own: &OwnState) -> Option<String> {
    let current = function.vgpu()?.current?;
    let parts = own.claims.iter().flat_map(|existing| &existing.claim.parts);
    let claimed = parts.filter_map(|part| part.partition.as_ref()).find_map(|one| match &one.how {
        Mechanism::Vgpu { type_id, name, .. } if *type_id == current => Some(name.as_str()),
        _ => None,
    });
    let siblings = inventory.functions.values();
    let siblings = siblings.filter(|other| other.physical_function == function.physical_function);
    let mut types = siblings.filter_map(Function::vgpu).flat_map(|vgpu| &vgpu.creatable);
    let listed = || types.find(|kind| kind.id == current).map(|kind| kind.name.as_str());
    claimed.or_else(listed).map(|name| own_name(name).to_owned())
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
