//! VFIO's nodes: of groups, of devices, of mediated devices (drivers/vfio/vfio_main.c, group.c).

use model::{Address, NodeAccess, VfioNode};
use uuid::Uuid;

use super::{ENOENT, Errno, Kernel};

impl Kernel {
    /// Creates the nodes of a function that is available through VFIO.
    pub(super) fn make_nodes(&mut self, address: Address) {
        if !self.is_offered(address) {
            return;
        }
        if let Some(group) = self.group_of(address) {
            self.nodes.entry(group).or_insert(NodeAccess::KERNEL_DEFAULT);
        }
        if self.known.vfio.iommufd {
            self.device_nodes.entry(address).or_insert(NodeAccess::KERNEL_DEFAULT);
        }
    }

    /// The device's node disappears with the function, the group's with its last function.
    pub(super) fn drop_nodes(&mut self, address: Address) {
        if !self.is_offered(address) {
            self.device_nodes.remove(&address);
        }
        let Some(group) = self.group_of(address) else { return };
        let of_group = |other: &&model::Function| other.iommu_group == Some(group);
        let left = self.known.functions.values().filter(of_group);
        if !left.map(|other| other.address).any(|other| self.is_offered(other)) {
            self.nodes.remove(&group);
        }
    }

    /// Owner and mode of a node.
    pub(super) fn node(&self, address: Address, node: VfioNode) -> Option<NodeAccess> {
        match node {
            VfioNode::Device => self.device_nodes.get(&address).copied(),
            VfioNode::MdevGroup(uuid) => {
                self.mdevs.get(&uuid).filter(|mdev| mdev.parent == address)?;
                self.mdev_node(uuid)
            }
        }
    }

    /// Owner and mode of a mediated device's group node.
    pub(crate) fn mdev_node(&self, uuid: Uuid) -> Option<NodeAccess> {
        self.nodes.get(self.mdev_groups.get(&uuid)?).copied()
    }

    pub(super) fn grant(
        &mut self,
        address: Address,
        node: VfioNode,
        to: NodeAccess,
    ) -> Result<(), Errno> {
        let place = match node {
            VfioNode::Device => self.device_nodes.get_mut(&address),
            VfioNode::MdevGroup(uuid) => {
                let group = self.mdev_groups.get(&uuid).ok_or(ENOENT)?;
                self.nodes.get_mut(group)
            }
        };
        *place.ok_or(ENOENT)? = to;
        Ok(())
    }

    pub(super) fn grant_group(&mut self, group: u32, to: NodeAccess) -> Result<(), Errno> {
        *self.nodes.get_mut(&group).ok_or(ENOENT)? = to;
        Ok(())
    }
}
