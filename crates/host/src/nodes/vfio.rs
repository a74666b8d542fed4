//! Only the VFIO nodes, looked up directly: for a few devices this is faster than reading hundreds of other nodes.

use model::Address;
use uuid::Uuid;

use super::{Character, Number, device_number};
use crate::function_files::DEVICES;
use crate::root::Root;

/// A function's own node below `/dev/vfio/devices`.
pub fn of_function(root: &Root, address: Address) -> Option<Character> {
    own(root, address, None)
}

/// The own node of a mediated device. It is looked up below its parent: while the kernel removes a device that is still
/// open, the device is no longer on its bus (`device_del` in drivers/base/core.c).
pub fn of_mdev(root: &Root, parent: Address, uuid: Uuid) -> Option<Character> {
    own(root, parent, Some(uuid))
}

/// The node of a group, `/dev/vfio/N`.
pub fn of_group(root: &Root, group: u32) -> Option<Number> {
    number(root, &format!("sys/devices/virtual/vfio/{group}"))
}

/// The group of a mediated device.
pub fn group_of_mdev(root: &Root, parent: Address, uuid: Uuid) -> Option<u32> {
    root.link_name(&format!("{DEVICES}/{parent}/{uuid}/iommu_group")).ok()?.parse().ok()
}

fn own(root: &Root, address: Address, mdev: Option<Uuid>) -> Option<Character> {
    let dir = match mdev {
        Some(uuid) => format!("{DEVICES}/{address}/{uuid}/vfio-dev"),
        None => format!("{DEVICES}/{address}/vfio-dev"),
    };
    let name = root.names(&dir).ok()?.into_iter().next()?;
    let number = number(root, &format!("{dir}/{name}"))?;
    Some(Character { address, name, number, dir: "vfio/devices/", mdev })
}

fn number(root: &Root, device: &str) -> Option<Number> {
    device_number(&root.attribute(&format!("{device}/dev")).ok()?)
}
