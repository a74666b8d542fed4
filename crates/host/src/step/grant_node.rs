//! Who may open a node of VFIO's whose number is known only once it is there: the device's own, for iommufd, and the
//! group of a mediated device.

use model::{Address, HostError, NodeAccess, Observed, VfioNode};
use rustix::io::Errno;

use super::create_mdev;
use crate::function_files::{DEVICES, directory};
use crate::node_access::{self, NODES};
use crate::problem;
use crate::root::Root;

/// Where the devices' own nodes are (`vfio_devnode` in drivers/vfio/device_cdev.c).
const DEVICE_NODES: &str = "dev/vfio/devices";

/// Who may open it, compared with before and after.
pub fn observe(
    root: &Root,
    address: Address,
    node: VfioNode,
    from: &NodeAccess,
    to: &NodeAccess,
) -> Result<Observed, HostError> {
    let Some(_) = directory(root, address)? else { return Ok(Observed::Absent) };
    match place(root, address, node)? {
        Some((place, name)) => node_access::observe(root, &format!("{place}/{name}"), from, to),
        None => Ok(Observed::Absent),
    }
}

/// What is missing where there is no such node.
pub fn missing(node: VfioNode) -> String {
    match node {
        VfioNode::Device => "no node of its own in /dev/vfio/devices: it is not on a vfio driver, or the kernel has no \
             CONFIG_VFIO_DEVICE_CDEV"
            .into(),
        VfioNode::MdevGroup(uuid) => create_mdev::missing(uuid),
    }
}

/// Gives it to another user.
pub fn grant(
    root: &Root,
    address: Address,
    node: VfioNode,
    to: &NodeAccess,
) -> Result<(), HostError> {
    let Some((place, name)) = place(root, address, node)? else {
        let reason = "it is not there any more";
        return Err(problem::because(root, "look for", NODES, Errno::NOENT, reason));
    };
    node_access::grant(root, place, &name, to)
}

/// The directory of the node and its name; `None` where there is none now.
fn place(
    root: &Root,
    address: Address,
    node: VfioNode,
) -> Result<Option<(&'static str, String)>, HostError> {
    match node {
        VfioNode::Device => {
            let path = format!("{DEVICES}/{address}/vfio-dev");
            match root.names(&path) {
                // One device of a function, `vfio3` (Documentation/ABI/testing/sysfs-devices-vfio-dev).
                Ok(names) => {
                    let name = names.into_iter().find(|name| name.starts_with("vfio"));
                    Ok(name.map(|name| (DEVICE_NODES, name)))
                }
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(problem::file(root, "list", &path, errno)),
            }
        }
        VfioNode::MdevGroup(uuid) => {
            if create_mdev::parent(root, uuid)? != Some(address) {
                return Ok(None);
            }
            let group = create_mdev::group(root, uuid)?;
            Ok(group.map(|group| (NODES, group.to_string())))
        }
    }
}
