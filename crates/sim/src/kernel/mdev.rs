//! Mediated devices: types whose available instances shrink together (drivers/vfio/mdev/).

use std::collections::BTreeMap;

use model::{Address, Mdev, MdevType, NodeAccess};
use uuid::Uuid;

use super::{EEXIST, EINVAL, ENOENT, ENOSPC, Errno, Kernel, MdevState};
use crate::hardware::{MdevKind, MdevParent};

impl Kernel {
    /// The parent, while it is bound to the driver that offers its types.
    fn parent(&self, address: Address) -> Option<&MdevParent> {
        self.hardware.parents.get(&address).filter(|_| self.is_native(address))
    }

    pub(super) fn children(&self, address: Address) -> impl Iterator<Item = (&Uuid, &MdevState)> {
        self.mdevs.iter().filter(move |(_, mdev)| mdev.parent == address)
    }

    /// The number of a type that can be created (`available_instances`).
    fn available(&self, address: Address, parent: &MdevParent, kind: &MdevKind) -> u32 {
        let cost = |type_id: &str| {
            let kind = parent.types.iter().find(|kind| kind.id == type_id);
            kind.map_or(0, |kind| kind.cost)
        };
        if parent.uniform && self.children(address).any(|(_, mdev)| mdev.type_id != kind.id) {
            return 0;
        }
        let used: u32 = self.children(address).map(|(_, mdev)| cost(&mdev.type_id)).sum();
        parent.capacity.saturating_sub(used) / kind.cost.max(1)
    }

    pub(super) fn mdev_types(&self, address: Address) -> Vec<MdevType> {
        let Some(parent) = self.parent(address) else { return Vec::new() };
        let tell = |kind: &MdevKind| MdevType {
            id: kind.id.clone(),
            name: Some(kind.name.clone()),
            available: Some(self.available(address, parent, kind)),
            device_api: Some("vfio-pci".into()),
            description: Some(format!("framebuffer={}M", kind.cost)),
        };
        parent.types.iter().map(tell).collect()
    }

    pub(super) fn listed_mdevs(&self, address: Address) -> Vec<Mdev> {
        let tell = |(uuid, mdev): (&Uuid, &MdevState)| Mdev {
            uuid: *uuid,
            type_id: Some(mdev.type_id.clone()),
            iommu_group: self.mdev_groups.get(uuid).copied(),
        };
        self.children(address).map(tell).collect()
    }

    /// A write to `create`. The device is bound to its vfio driver immediately, so its group's node exists.
    pub(super) fn create_mdev(
        &mut self,
        address: Address,
        uuid: Uuid,
        type_id: &str,
    ) -> Result<(), Errno> {
        let parent = self.parent(address).ok_or(ENOENT)?;
        let kind = parent.types.iter().find(|kind| kind.id == type_id).ok_or(ENOENT)?;
        if self.mdevs.contains_key(&uuid) {
            return Err(EEXIST);
        }
        if parent.uniform && self.children(address).any(|(_, mdev)| mdev.type_id != type_id) {
            return Err(EINVAL);
        }
        if self.available(address, parent, kind) == 0 {
            return Err(ENOSPC);
        }
        let group = self.free_group();
        let (type_id, attributes) = (type_id.to_owned(), BTreeMap::new());
        self.mdevs.insert(uuid, MdevState { parent: address, type_id, attributes });
        self.mdev_groups.insert(uuid, group);
        self.nodes.insert(group, NodeAccess::KERNEL_DEFAULT);
        Ok(())
    }

    pub(super) fn remove_mdev(&mut self, address: Address, uuid: Uuid) -> Result<(), Errno> {
        self.mdevs.get(&uuid).filter(|mdev| mdev.parent == address).ok_or(ENOENT)?;
        self.forget_mdev(uuid);
        Ok(())
    }

    /// All mediated devices disappear with their parent or its driver.
    pub(super) fn drop_mdevs(&mut self, address: Address) {
        let gone: Vec<Uuid> = self.children(address).map(|(uuid, _)| *uuid).collect();
        for uuid in gone {
            self.forget_mdev(uuid);
        }
    }

    fn forget_mdev(&mut self, uuid: Uuid) {
        self.mdevs.remove(&uuid);
        if let Some(group) = self.mdev_groups.remove(&uuid) {
            self.nodes.remove(&group);
        }
    }

    pub(super) fn write_mdev(
        &mut self,
        address: Address,
        uuid: Uuid,
        name: &str,
        value: &str,
    ) -> Result<(), Errno> {
        let known = self.parent(address).is_some_and(|p| p.attributes.iter().any(|a| a == name));
        let mdev = self.mdevs.get_mut(&uuid).filter(|_| known).ok_or(ENOENT)?;
        if value.is_empty() {
            return Err(EINVAL);
        }
        mdev.attributes.insert(name.into(), value.into());
        Ok(())
    }

    /// Whether removing it would block on a machine that has it open.
    pub(super) fn removal_blocks(&self, uuid: Uuid) -> bool {
        self.mdev_groups.get(&uuid).is_some_and(|group| self.users.contains_key(group))
    }
}
