//! Who uses a device now. Found before a hand-over, not by an open that fails in its middle.

mod disks;
mod network;
mod processes;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use processes::unit;

use model::{Address, Holder, HostError};

use crate::inventory::DEVICES;
use crate::nodes::{self, Nodes};
use crate::root::Root;
use processes::{Hit, Lookup, What};

/// The functions of each IOMMU group.
type Groups = BTreeMap<u32, Vec<Address>>;

/// Everybody who uses one of these functions.
pub fn find(root: &Root, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
    let wanted: BTreeSet<Address> = addresses.iter().copied().collect();
    let mut groups = Groups::new();
    for address in &wanted {
        if let Some(group) = group_of(root, *address) {
            groups.entry(group).or_default().push(*address);
        }
    }
    let mut nodes = nodes::read(root);
    nodes.characters.retain(|node| wanted.contains(&node.address));
    nodes.disks.retain(|disk| wanted.contains(&disk.address));
    nodes.interfaces.retain(|interface| wanted.contains(&interface.address));
    nodes.vfio_groups.retain(|group, _| groups.contains_key(group));
    let hits = processes::look(root, &Lookup::of(&nodes))?;
    Ok(all(root, &nodes, &groups, &hits))
}

/// What uses the functions of a host, found while its functions are still being read: who is in which IOMMU group is
/// needed last.
pub struct Uses {
    nodes: Nodes,
    hits: Vec<Hit>,
}

impl Uses {
    /// Looks at every process.
    pub fn read(root: &Root) -> Result<Self, HostError> {
        let nodes = nodes::read(root);
        let hits = processes::look(root, &Lookup::of(&nodes))?;
        Ok(Self { nodes, hits })
    }

    /// The holders, when the groups are known.
    pub fn holders(&self, root: &Root, groups: &Groups) -> Vec<Holder> {
        all(root, &self.nodes, groups, &self.hits)
    }
}

/// Everybody who has a function open through VFIO: by its group or by its own node.
pub fn of_vfio(root: &Root, address: Address) -> Result<Vec<Holder>, HostError> {
    let group = group_of(root, address);
    let mut nodes = nodes::read(root);
    nodes.characters.retain(|node| node.address == address && node.is_vfio());
    nodes.vfio_groups.retain(|number, _| Some(*number) == group);
    nodes.disks.clear();
    let hits = processes::look(root, &Lookup::of(&nodes))?;
    let groups = group.into_iter().map(|group| (group, vec![address])).collect();
    Ok(of_processes(&nodes, &groups, &hits))
}

fn group_of(root: &Root, address: Address) -> Option<u32> {
    root.link_name(&format!("{DEVICES}/{address}/iommu_group")).ok()?.parse().ok()
}

fn all(root: &Root, nodes: &Nodes, groups: &Groups, hits: &[Hit]) -> Vec<Holder> {
    let mut holders = disks::holders(root, &nodes.disks);
    holders.extend(network::holders(root, &nodes.interfaces));
    holders.sort_by_key(|holder| holder.address);
    holders.extend(of_processes(nodes, groups, hits));
    holders
}

/// The processes, each named once for a function and a node.
fn of_processes(nodes: &Nodes, groups: &Groups, hits: &[Hit]) -> Vec<Holder> {
    let mut holders = Vec::new();
    for hit in hits {
        let mut held: Vec<(Address, String)> = Vec::new();
        for what in &hit.nodes {
            match what {
                What::Character(index) => {
                    held.extend(nodes.characters.get(*index).map(|n| (n.address, n.path())));
                }
                What::Disk(index) => {
                    let disk = nodes.disks.get(*index);
                    held.extend(disk.map(|disk| (disk.address, disk.path())));
                }
                What::VfioGroup(number) => {
                    let members = groups.get(number).map(Vec::as_slice).unwrap_or_default();
                    held.extend(members.iter().map(|a| (*a, format!("/dev/vfio/{number}"))));
                }
            }
        }
        held.sort_unstable();
        held.dedup();
        let (pid, user) = (Some(hit.pid), &hit.user);
        holders.extend(held.into_iter().map(|(address, by)| {
            let user = user.clone();
            Holder { address, pid, user, by }
        }));
    }
    holders
}
