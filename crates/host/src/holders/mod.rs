//! The present users of a device. They are found before a hand-over, so that it does not fail in the middle.

mod disks;
pub(crate) mod network;
mod processes;
mod shared;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use disks::block_users;
pub(crate) use processes::{unit, unit_and_user};

use model::{Address, Group, Holder, HolderKind, HostError, Inventory, Mdev};
use uuid::Uuid;

use crate::function_files::DEVICES;
use crate::inventory::mdevs_of;
use crate::nodes::{self, Nodes};
use crate::root::Root;
use processes::{Hit, Lookup, OpenNode};

/// The members of each IOMMU group: functions, and mediated devices with their parents.
#[derive(Debug, Default)]
pub struct Groups(BTreeMap<u32, Vec<(Address, Option<Uuid>)>>);

impl Groups {
    /// The groups of these functions and of their mediated devices.
    fn of(root: &Root, addresses: &[Address]) -> Self {
        let mut groups = Self::of_functions(root, addresses);
        for (parent, mdevs) in mdevs_of(root, addresses) {
            groups.add_mdevs(parent, &mdevs);
        }
        groups
    }

    fn of_functions(root: &Root, addresses: &[Address]) -> Self {
        let mut groups = Self::default();
        for address in addresses {
            if let Some(group) = group_of(root, *address) {
                groups.0.entry(group).or_default().push((*address, None));
            }
        }
        groups
    }

    /// The groups of all functions and mediated devices of a host.
    pub fn of_all(inventory: &Inventory) -> Self {
        let functions = |(number, group): (&u32, &Group)| {
            (*number, group.members.iter().map(|address| (*address, None)).collect())
        };
        let mut groups = Self(inventory.groups.iter().map(functions).collect());
        for function in inventory.functions.values() {
            groups.add_mdevs(function.address, &function.mdevs);
        }
        groups
    }

    fn add_mdevs(&mut self, parent: Address, mdevs: &[Mdev]) {
        for mdev in mdevs {
            if let Some(group) = mdev.iommu_group {
                self.0.entry(group).or_default().push((parent, Some(mdev.uuid)));
            }
        }
    }
}

/// All users of these functions.
pub fn find(root: &Root, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
    let wanted: BTreeSet<Address> = addresses.iter().copied().collect();
    let groups = Groups::of(root, addresses);
    let mut nodes = nodes::read(root);
    nodes.characters.retain(|node| wanted.contains(&node.address));
    nodes.disks.retain(|disk| wanted.contains(&disk.address));
    nodes.interfaces.retain(|interface| wanted.contains(&interface.address));
    nodes.shares.retain(|share| wanted.contains(&share.address));
    nodes.vfio_groups.retain(|group, _| groups.0.contains_key(group));
    let hits = processes::find(root, &Lookup::of(&nodes))?;
    let has_network = |address: &Address| root.exists(&format!("{DEVICES}/{address}/net"));
    let network = !nodes.interfaces.is_empty() || addresses.iter().any(has_network);
    let mut holders = all(root, &nodes, &groups, &hits, network.then_some(addresses));
    holders.retain(|holder| wanted.contains(&holder.address));
    Ok(holders)
}

/// The users of a host's functions, found while its functions are still being read: the IOMMU groups are needed last.
pub struct Uses {
    nodes: Nodes,
    hits: Vec<Hit>,
}

impl Uses {
    /// Reads the open files of every process.
    pub fn read(root: &Root) -> Result<Self, HostError> {
        let nodes = nodes::read(root);
        let hits = processes::find(root, &Lookup::of(&nodes))?;
        Ok(Self { nodes, hits })
    }

    /// The holders, once the groups and the NICs are known.
    pub fn holders(&self, root: &Root, groups: &Groups, nics: &[Address]) -> Vec<Holder> {
        all(root, &self.nodes, groups, &self.hits, Some(nics))
    }
}

/// The processes that have one of these functions open through VFIO: by its group or by its own node.
pub fn of_vfio(root: &Root, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
    let groups = Groups::of_functions(root, addresses);
    let numbers: Vec<u32> = groups.0.keys().copied().collect();
    let nodes = nodes::read_vfio(root, addresses, &numbers);
    let hits = processes::find(root, &Lookup::of(&nodes))?;
    Ok(of_processes(&nodes, &groups, &hits))
}

/// The processes that have a mediated device open: by its group or by its own node.
pub fn of_mdev(root: &Root, parent: Address, uuid: Uuid) -> Result<Vec<Holder>, HostError> {
    let group = nodes::vfio::group_of_mdev(root, parent, uuid);
    let groups =
        Groups(group.map(|group| (group, vec![(parent, Some(uuid))])).into_iter().collect());
    let mut nodes = nodes::read_vfio(root, &[], group.as_slice());
    nodes.characters.extend(nodes::vfio::of_mdev(root, parent, uuid));
    let hits = processes::find(root, &Lookup::of(&nodes))?;
    Ok(of_processes(&nodes, &groups, &hits))
}

fn group_of(root: &Root, address: Address) -> Option<u32> {
    root.link_name(&format!("{DEVICES}/{address}/iommu_group")).ok()?.parse().ok()
}

/// All users; of the network, if one of the functions can have an interface: these are looked at for interfaces that are
/// not here.
fn all(
    root: &Root,
    nodes: &Nodes,
    groups: &Groups,
    hits: &[Hit],
    with_network: Option<&[Address]>,
) -> Vec<Holder> {
    let mut holders = disks::holders(root, &nodes.disks);
    if let Some(nics) = with_network {
        let hidden = network::hidden(root, nics);
        holders.extend(network::holders(root, &nodes.interfaces, &hidden));
    }
    holders.extend(shared::holders(root, &nodes.shares));
    holders.sort_by_key(|holder| holder.address);
    holders.extend(of_processes(nodes, groups, hits));
    holders
}

/// A user that is not a process.
const fn unowned(address: Address, kind: HolderKind, user: String, by: String) -> Holder {
    Holder {
        address,
        kind,
        pid: None,
        started: None,
        program: None,
        user,
        by,
        mdev: None,
        interface: None,
    }
}

/// The processes, each once per function and node.
fn of_processes(nodes: &Nodes, groups: &Groups, hits: &[Hit]) -> Vec<Holder> {
    let mut holders = Vec::new();
    for hit in hits {
        let mut open: Vec<(Address, Option<Uuid>, String)> = Vec::new();
        for node in &hit.nodes {
            match node {
                OpenNode::Character(index) => {
                    let node = nodes.characters.get(*index);
                    open.extend(node.map(|node| (node.address, node.mdev, node.path())));
                }
                OpenNode::Disk(index) => {
                    let disk = nodes.disks.get(*index);
                    open.extend(disk.map(|disk| (disk.address, None, disk.path())));
                }
                OpenNode::VfioGroup(number) => {
                    let members = groups.0.get(number).map(Vec::as_slice).unwrap_or_default();
                    let path = || format!("/dev/vfio/{number}");
                    open.extend(members.iter().map(|(at, mdev)| (*at, *mdev, path())));
                }
            }
        }
        open.sort_unstable();
        open.dedup();
        holders.extend(open.into_iter().map(|(address, mdev, by)| Holder {
            address,
            kind: HolderKind::Process,
            pid: Some(hit.pid),
            started: hit.started,
            program: hit.program.clone(),
            user: hit.user.clone(),
            by,
            mdev,
            interface: None,
        }));
    }
    holders
}
