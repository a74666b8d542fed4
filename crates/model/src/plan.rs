//! Plans: the ordered steps that prepare the parts of a claim. A plan is a value that can be printed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::boot_list::BootListEntry;
use crate::{
    Address, AsFound, ClaimedMember, Function, Inventory, Mark, MdevDefinition, Mechanism,
    NodeAccess, Part, Partition, PowerControl, ResetDomain, Step, VfSettings, VfioNode, is_vfio,
};

/// The steps that prepare a claim. The parts are independent and may be prepared in parallel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Steps that all parts need, first.
    pub first: Vec<Step>,
    /// The steps of each part, in the order of the claim's parts.
    pub parts: Vec<Vec<Step>>,
    /// Steps after all parts: a reset can affect functions of several parts, and none may be on its native driver.
    pub last: Vec<Step>,
}

impl Plan {
    /// All steps in sequential order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.first.iter().chain(self.parts.iter().flatten()).chain(&self.last)
    }
}

/// The state of the host, and the options.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// The hardware.
    pub inventory: &'a Inventory,
    /// Each function as it was found.
    pub found: &'a [AsFound],
    /// Owner and mode of existing group nodes.
    pub nodes: &'a BTreeMap<u32, NodeAccess>,
    /// Current settings of virtual functions that get new ones.
    pub vf_settings: &'a BTreeMap<Address, VfSettings>,
    /// mdevctl's definitions of mediated devices; they are left unchanged.
    pub definitions: &'a [MdevDefinition],
    /// The mark that names the owner to other Handover processes.
    pub mark: &'a Mark,
    /// The user who may open the prepared devices.
    pub uid: u32,
    /// Whether that user may open the nodes of the groups. If not, [`grants`] are made later, or never.
    pub group_nodes: bool,
    /// Whether that user may also open the functions' VFIO device nodes (iommufd).
    pub device_nodes: bool,
    /// Whether functions are reset after they are bound to vfio. VFIO also resets them when they are opened.
    pub reset: bool,
}

/// The steps that prepare `parts` for a machine of user `uid`.
#[must_use]
pub fn prepare(given: &Given<'_>, parts: &[Part]) -> Plan {
    let mut modules = vec!["vfio_iommu_type1".to_owned()];
    for (function, _) in parts.iter().filter(|part| part.is_bound()).flat_map(|p| given.taken(p)) {
        let module = function.vfio_driver.replace('-', "_");
        if !modules.contains(&module) {
            modules.push(module);
        }
    }
    Plan {
        first: modules.into_iter().map(|module| Step::LoadModule { module }).collect(),
        parts: parts.iter().map(|part| given.part(part)).collect(),
        last: if given.reset { given.resets(parts) } else { Vec::new() },
    }
}

/// The steps that let `uid` open the groups of a part, whose functions are bound. `nodes` has the owners and modes of the groups'
/// nodes; those of mediated devices are the kernel's.
#[must_use]
pub fn grants(
    inventory: &Inventory,
    nodes: &BTreeMap<u32, NodeAccess>,
    uid: u32,
    part: &Part,
) -> Vec<Step> {
    let to = NodeAccess { uid, gid: 0, mode: 0o600 };
    if let Some(uuid) = part.partition.as_ref().and_then(Partition::mdev) {
        let node = VfioNode::MdevGroup(uuid);
        let from = NodeAccess::KERNEL_DEFAULT;
        return vec![Step::GrantNode { address: part.head, node, from, to }];
    }
    let mut groups = BTreeSet::new();
    let mut steps = Vec::new();
    for address in part.taken() {
        let group = inventory.function(address).and_then(|function| function.iommu_group);
        let Some(group) = group.filter(|group| groups.insert(*group)) else { continue };
        let from = nodes.get(&group).copied().unwrap_or(NodeAccess::KERNEL_DEFAULT);
        steps.push(Step::GrantGroup { address, group, from, to });
    }
    steps
}

impl Given<'_> {
    fn taken(&self, part: &Part) -> Vec<(&Function, &AsFound)> {
        let find = |member: &ClaimedMember| {
            let function = self.inventory.function(member.address)?;
            Some((function, self.found.iter().find(|found| found.address == member.address)?))
        };
        part.members.iter().filter(|m| m.role.is_taken()).filter_map(find).collect()
    }

    fn part(&self, part: &Part) -> Vec<Step> {
        let mut steps = self.marks(part);
        steps.extend(self.make(part));
        if part.is_bound() {
            let taken = self.taken(part);
            for (function, found) in &taken {
                steps.extend(bind(function.address, &function.vfio_driver, found));
            }
            let reserved = taken.iter().filter(|_| part.at_boot).map(|(function, _)| function);
            steps.extend(reserved.map(|function| add_to_boot_list(function)));
        }
        steps.extend(self.grants(part));
        steps
    }

    /// Marks all functions that are taken from the host, before any other step. The parent of a partition stays with
    /// the host.
    fn marks(&self, part: &Part) -> Vec<Step> {
        let mark = |address: Address| Step::Mark { address, mark: self.mark.clone() };
        self.taken(part).into_iter().map(|(function, _)| mark(function.address)).collect()
    }

    /// Creates the partition of a device.
    fn make(&self, part: &Part) -> Vec<Step> {
        let Some(Partition { parent, how }) = &part.partition else { return Vec::new() };
        match how {
            Mechanism::Vf { settings, .. } if settings.is_empty() => Vec::new(),
            Mechanism::Vf { index, settings } => {
                let address = part.head;
                let found = self.vf_settings.get(&address).cloned().unwrap_or_default();
                let from = found.only(settings);
                let (parent, index, to) = (*parent, *index, settings.clone());
                vec![Step::SetVf { address, parent, index, from, to }]
            }
            Mechanism::Mdev { existing: true, .. } => Vec::new(),
            Mechanism::Mdev { uuid, type_id, attributes, define, .. } => {
                let (address, uuid) = (*parent, *uuid);
                let made = Step::CreateMdev { address, uuid, type_id: type_id.clone() };
                let attribute = |(name, value): &(String, String)| {
                    let (name, value) = (name.clone(), value.clone());
                    Step::SetMdevAttribute { address, uuid, name, value }
                };
                let defined = self.definitions.iter().any(|one| one.uuid == uuid);
                let written = (*define && !defined).then(|| {
                    let (type_id, attributes) = (type_id.clone(), attributes.clone());
                    Step::DefineMdev { address, uuid, type_id, attributes }
                });
                let attributes = attributes.iter().map(attribute);
                std::iter::once(made).chain(attributes).chain(written).collect()
            }
            // It stays as another tool made it.
            Mechanism::Vgpu { existing: true, .. } => Vec::new(),
            Mechanism::Vgpu { function, type_id, .. } => {
                let awake = self.found.iter().find(|found| found.address == *function);
                let awake = awake.and_then(|found| keep_awake(*function, found));
                let made = Step::SetVgpu { address: *function, from: 0, to: *type_id };
                awake.into_iter().chain([made]).collect()
            }
        }
    }

    /// Resets all functions whose reset affects nothing outside the claim; a bus reset is done once for all functions
    /// that it affects.
    fn resets(&self, parts: &[Part]) -> Vec<Step> {
        let all: BTreeSet<Address> = parts.iter().flat_map(Part::taken).collect();
        let bound = parts.iter().filter(|part| part.is_bound());
        let mut done: BTreeSet<Address> = BTreeSet::new();
        let mut steps = Vec::new();
        for (function, found) in bound.flat_map(|part| self.taken(part)) {
            let domain = ResetDomain::of(self.inventory, function).functions;
            let ours = !domain.is_empty() && domain.iter().all(|address| all.contains(address));
            if !ours || done.contains(&function.address) {
                continue;
            }
            done.extend(&domain);
            steps.push(Step::Reset { address: function.address, domain, link: found.link });
        }
        steps
    }

    /// Grants access to the nodes of the part.
    fn grants(&self, part: &Part) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.group_nodes {
            steps = grants(self.inventory, self.nodes, self.uid, part);
        }
        let is_mdev = part.partition.as_ref().and_then(Partition::mdev).is_some();
        if self.device_nodes && self.inventory.vfio.iommufd && !is_mdev {
            let to = NodeAccess { uid: self.uid, gid: 0, mode: 0o600 };
            let (node, from) = (VfioNode::Device, NodeAccess::KERNEL_DEFAULT);
            let guests = part.guests().map(|member| member.address);
            steps.extend(guests.map(|address| Step::GrantNode { address, node, from, to }));
        }
        steps
    }
}

fn add_to_boot_list(function: &Function) -> Step {
    let BootListEntry { address, vendor, device, driver } = BootListEntry::of(function);
    Step::AddToBootList { address, vendor, device, driver }
}

/// Keeps a claimed device awake: D3cold and resume failures lose devices (docs/kernel.md, Reset).
fn keep_awake(address: Address, found: &AsFound) -> Option<Step> {
    found.power.map(|from| Step::SetPower { address, from, to: PowerControl::On })
}

/// The steps that bind one function to its vfio driver.
///
/// The override is written before the unbind: otherwise any probe on the host between the two could bind the function
/// to its old driver again.
fn bind(address: Address, vfio: &str, found: &AsFound) -> Vec<Step> {
    let mut steps = Vec::new();
    // Once before the unbind, so that the original value is recorded first, and once after the bind, because vfio-pci
    // sets it to auto.
    let awake = keep_awake(address, found);
    steps.extend(awake.clone());
    if found.driver.as_deref().is_some_and(|driver| is_vfio(driver, vfio)) {
        return steps;
    }
    // Also if the override is already set: the step records it, so that the undo can bind the native driver.
    steps.push(Step::SetOverride {
        address,
        from: found.driver_override.clone(),
        to: Some(vfio.into()),
    });
    if let Some(driver) = &found.driver {
        steps.push(Step::Unbind { address, driver: driver.clone() });
    }
    steps.push(Step::Bind { address, driver: vfio.into() });
    steps.extend(awake);
    steps
}
