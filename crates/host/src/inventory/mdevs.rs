//! Existing mediated devices (Documentation/driver-api/vfio-mediated-device.rst).

use std::collections::BTreeMap;

use model::{Address, Mdev};
use uuid::Uuid;

use crate::nodes;
use crate::root::Root;

/// The directory of their links.
pub const MDEVS: &str = "sys/bus/mdev/devices";

/// Every mediated device, by its parent function. Parents that are not PCI functions are skipped.
pub fn read(root: &Root) -> BTreeMap<Address, Vec<Mdev>> {
    let mut mdevs: BTreeMap<Address, Vec<Mdev>> = BTreeMap::new();
    let names = root.names(MDEVS).unwrap_or_default();
    let uuids = names.iter().filter_map(|name| name.parse::<Uuid>().ok());
    for (parent, mdev) in uuids.filter_map(|uuid| read_one(root, uuid)) {
        mdevs.entry(parent).or_default().push(mdev);
    }
    mdevs
}

/// The mediated devices of these functions.
pub fn of(root: &Root, parents: &[Address]) -> BTreeMap<Address, Vec<Mdev>> {
    let mut mdevs = read(root);
    mdevs.retain(|parent, _| parents.contains(parent));
    mdevs
}

/// A mediated device with its parent; `None` if it does not exist or its parent is not a PCI function.
pub fn read_one(root: &Root, uuid: Uuid) -> Option<(Address, Mdev)> {
    let path = format!("{MDEVS}/{uuid}");
    // `../../../devices/pci0000:00/0000:00:02.0/UUID`: the parent is the last function in the path.
    let target = root.link(&path).ok()?;
    let parent = target.rsplit('/').find_map(nodes::address_of)?;
    let type_id = root.link_name(&format!("{path}/mdev_type")).ok();
    let group = root.link_name(&format!("{path}/iommu_group")).ok();
    let iommu_group = group.and_then(|group| group.parse().ok());
    Some((parent, Mdev { uuid, type_id, iommu_group }))
}
