//! Owner and mode of a VFIO node whose number is known only once it exists: the device's own node, for iommufd, and the
//! group node of a mediated device.

use model::{Address, HostError, NodeAccess, Observed, VfioNode};
use rustix::io::Errno;

use super::create_mdev;
use crate::function_files::{DEVICES, directory};
use crate::node_access::{self, NODES};
use crate::problem;
use crate::root::Root;

/// The directory of the devices' own nodes (`vfio_devnode` in drivers/vfio/device_cdev.c).
const DEVICE_NODES: &str = "dev/vfio/devices";

/// Compares owner and mode with those before and after the step.
pub fn observe(
    root: &Root,
    address: Address,
    node: VfioNode,
    from: &NodeAccess,
    to: &NodeAccess,
) -> Result<Observed, HostError> {
    let Some(_) = directory(root, address)? else { return Ok(Observed::Absent) };
    match locate(root, address, node)? {
        Some((folder, name)) => node_access::observe(root, &format!("{folder}/{name}"), from, to),
        None => Ok(Observed::Absent),
    }
}

/// Describes a node that does not exist.
pub fn missing(node: VfioNode) -> String {
    match node {
        VfioNode::Device => "no node in /dev/vfio/devices: the function is not bound to a vfio driver, or the kernel \
             lacks CONFIG_VFIO_DEVICE_CDEV"
            .into(),
        VfioNode::MdevGroup(uuid) => create_mdev::missing(uuid),
    }
}

/// Changes the owner and the mode of the node.
pub fn grant(
    root: &Root,
    address: Address,
    node: VfioNode,
    to: &NodeAccess,
) -> Result<(), HostError> {
    let Some((folder, name)) = locate(root, address, node)? else {
        let reason = "the node no longer exists";
        return Err(problem::because(root, "search", NODES, Errno::NOENT, reason));
    };
    node_access::grant(root, folder, &name, to)
}

/// The directory of the node and its name; `None` if it does not exist.
fn locate(
    root: &Root,
    address: Address,
    node: VfioNode,
) -> Result<Option<(&'static str, String)>, HostError> {
    match node {
        VfioNode::Device => {
            let path = format!("{DEVICES}/{address}/vfio-dev");
            match root.names(&path) {
                // A function has one, such as `vfio3` (Documentation/ABI/testing/sysfs-devices-vfio-dev).
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
