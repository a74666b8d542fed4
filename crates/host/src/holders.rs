//! Who uses a device now. Found before a hand-over, not by an open that fails in its middle.

mod disks;
mod network;
mod processes;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use processes::unit;

use model::{Address, Holder, HostError};
use uuid::Uuid;

use crate::inventory::{DEVICES, MDEVS};
use crate::nodes::{self, Nodes};
use crate::root::Root;
use processes::{Hit, Lookup, What};

/// The functions of each IOMMU group.
type Groups = BTreeMap<u32, Vec<Address>>;

/// Everybody who uses one of these functions.
pub fn find(root: &Root, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
    let wanted: BTreeSet<Address> = addresses.iter().copied().collect();
    let groups = groups_of(root, &wanted);
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

/// Everybody who has one of these functions open through VFIO: by its group or by its own node.
pub fn of_vfio(root: &Root, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
    let groups = groups_of(root, addresses);
    let mut nodes = nodes::read(root);
    nodes.characters.retain(|node| addresses.contains(&node.address) && node.is_vfio());
    nodes.vfio_groups.retain(|number, _| groups.contains_key(number));
    nodes.disks.clear();
    let hits = processes::look(root, &Lookup::of(&nodes))?;
    Ok(of_processes(&nodes, &groups, &hits))
}

/// Everybody who has a mediated device open: by its group or by its own node.
pub fn of_mdev(root: &Root, parent: Address, uuid: Uuid) -> Result<Vec<Holder>, HostError> {
    let path = format!("{MDEVS}/{uuid}");
    let group = root.link_name(&format!("{path}/iommu_group")).ok();
    let group: Option<u32> = group.and_then(|group| group.parse().ok());
    let own = root.names(&format!("{path}/vfio-dev")).unwrap_or_default();
    let mut nodes = nodes::read(root);
    nodes.characters.retain(|node| node.of_mdev && own.contains(&node.name));
    nodes.vfio_groups.retain(|number, _| Some(*number) == group);
    nodes.disks.clear();
    let hits = processes::look(root, &Lookup::of(&nodes))?;
    let groups = group.into_iter().map(|group| (group, vec![parent])).collect();
    Ok(of_processes(&nodes, &groups, &hits))
}

fn groups_of<'a>(root: &Root, addresses: impl IntoIterator<Item = &'a Address>) -> Groups {
    let mut groups = Groups::new();
    for address in addresses {
        if let Some(group) = group_of(root, *address) {
            groups.entry(group).or_default().push(*address);
        }
    }
    groups
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

/// Somebody who is no process.
const fn kernel(address: Address, user: String, by: String) -> Holder {
    Holder { address, pid: None, started: None, program: None, user, by }
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
        holders.extend(held.into_iter().map(|(address, by)| Holder {
            address,
            pid: Some(hit.pid),
            started: hit.started,
            program: hit.program.clone(),
            user: hit.user.clone(),
            by,
        }));
    }
    holders
}
