//! A catalog applied to a host: the devices of each resource, and their availability.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Catalog, Line, Unmatched};
use crate::{Address, Assembly, Code, Holder, Inventory, OwnState, Refusal};

/// The result of a catalog on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Every resource of the catalog, by name.
    pub resources: Vec<Resource>,
    /// The lines that got no function, with reasons.
    pub unmatched: Vec<Unmatched>,
}

/// One resource on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// `gpu.nvidia/ga100gl.rev.a1`.
    pub name: String,
    /// Its line numbers in the file.
    pub lines: Vec<u32>,
    /// The number of devices.
    pub count: usize,
    /// The number of devices that can be handed over now, all at the same time.
    pub available: usize,
    /// The devices, by address.
    pub devices: Vec<SurveyedDevice>,
}

/// One device of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyedDevice {
    /// Its address.
    pub address: Address,
    /// Its display name.
    pub name: String,
    /// The number of its line.
    pub line: u32,
    /// Whether it can be handed over now.
    pub state: SurveyState,
    /// Users of its assembly.
    pub used_by: Vec<String>,
    /// The owners of the claims that have it or partitions of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_by: Vec<String>,
    /// Why it cannot be handed over; empty if it can.
    pub obstacles: Vec<Refusal>,
}

/// Whether a device of a resource can be handed over now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum SurveyState {
    /// It can be handed over.
    Free,
    /// It is in use.
    InUse,
    /// A claim has it, or partitions of it.
    Claimed,
    /// It can only be handed over together with a device that was counted before it.
    With {
        /// That device.
        address: Address,
    },
    /// It cannot be handed over.
    Impossible,
}

impl Catalog {
    /// Applies the catalog to a host with these users of devices and these claims.
    #[must_use]
    pub fn survey(&self, inventory: &Inventory, holders: &[Holder], own: &OwnState) -> Survey {
        let assigned = self.assign(inventory);
        let mut users: BTreeMap<Address, Vec<&Holder>> = BTreeMap::new();
        for holder in holders {
            users.entry(holder.address).or_default().push(holder);
        }
        let mut resources: BTreeMap<String, Resource> = BTreeMap::new();
        for line in &self.lines {
            let name = line.resource();
            let resource = resources.entry(name).or_insert_with_key(|name| Resource::empty(name));
            resource.lines.push(line.number);
        }
        let mut given = BTreeMap::new();
        for (address, index) in &assigned {
            let Some(line) = self.lines.get(*index) else { continue };
            let Some(found) =
                SurveyedDevice::of(inventory, *address, line, (&users, own), &mut given)
            else {
                continue;
            };
            if let Some(resource) = resources.get_mut(&line.resource()) {
                resource.count += 1;
                resource.available += usize::from(found.state == SurveyState::Free);
                resource.devices.push(found);
            }
        }
        let used: BTreeSet<usize> = assigned.values().copied().collect();
        let unused = (0..self.lines.len()).filter(|index| !used.contains(index));
        let unmatched = unused.filter_map(|index| self.unmatched(inventory, index)).collect();
        Survey { resources: resources.into_values().collect(), unmatched }
    }
}

impl Survey {
    /// Whether a line got no function.
    #[must_use]
    pub fn has_warnings(&self) -> bool {
        !self.unmatched.is_empty()
    }
}

impl Resource {
    fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            lines: Vec::new(),
            count: 0,
            available: 0,
            devices: Vec::new(),
        }
    }
}

impl SurveyedDevice {
    /// `given` has the IOMMU groups of the devices already counted as free: a group has one owner, even if another
    /// function in it has no driver and is not handed over.
    fn of(
        inventory: &Inventory,
        address: Address,
        line: &Line,
        (users, own): (&BTreeMap<Address, Vec<&Holder>>, &OwnState),
        given: &mut BTreeMap<u32, Address>,
    ) -> Option<Self> {
        let function = inventory.function(address)?;
        let assembly = Assembly::of(inventory, address)?;
        let mut obstacles = assembly.obstacles(inventory);
        let claimed_by: Vec<String> =
            own.claims_of(&assembly).map(|(existing, _)| existing.owner.clone()).collect();
        if !claimed_by.is_empty() {
            // Partitions of a claim are released, never removed.
            obstacles.retain(|obstacle| obstacle.code != Code::InUse);
        }
        obstacles.extend(own.attention(&assembly).map(|unhealthy| unhealthy.why));
        let group = |member: Address| inventory.function(member)?.iommu_group;
        let groups: Vec<u32> =
            assembly.taken().filter_map(|member| group(member.address)).collect();
        let mut used_by: Vec<String> = assembly
            .taken()
            .filter_map(|member| users.get(&member.address))
            .flatten()
            .map(|holder| holder.user_and_use())
            .collect();
        used_by.dedup();
        let state = if !obstacles.is_empty() {
            SurveyState::Impossible
        } else if !claimed_by.is_empty() {
            SurveyState::Claimed
        } else if !used_by.is_empty() {
            SurveyState::InUse
        } else if let Some(first) = groups.iter().find_map(|group| given.get(group)) {
            SurveyState::With { address: *first }
        } else {
            given.extend(groups.iter().map(|group| (*group, address)));
            SurveyState::Free
        };
        let (name, line) = (function.title(), line.number);
        Some(Self { address, name, line, state, used_by, claimed_by, obstacles })
    }
}
