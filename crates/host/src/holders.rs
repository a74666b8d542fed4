//! Who uses a device now. Found before a hand-over, not by an open that fails in its middle.

mod below;
mod disks;
mod network;
mod processes;

use model::{Address, Holder, HostError};

use crate::inventory::DEVICES;
use crate::root::Root;
use below::{Below, Node};

/// The character device major of `/dev/nvidia0` and its siblings (Documentation/admin-guide/devices.txt).
const NVIDIA: u32 = 195;

/// Everybody who uses one of these functions.
pub fn find(root: &Root, addresses: &[Address]) -> Result<Vec<Holder>, HostError> {
    let mut targets = Vec::new();
    let mut holders = Vec::new();
    for address in addresses {
        let below = below::look(root, &format!("{DEVICES}/{address}"));
        holders.extend(disks::holders(root, *address, &below));
        holders.extend(network::holders(root, *address, &below.interfaces));
        targets.extend(below.nodes.into_iter().map(|node| (*address, node)));
        targets.extend(group_node(root, *address).map(|node| (*address, node)));
        targets.extend(nvidia_node(root, *address).map(|node| (*address, node)));
    }
    holders.extend(processes::holders(root, &targets)?);
    Ok(holders)
}

/// Everybody who has a function open through VFIO: by its group or by its own node.
pub fn of_vfio(root: &Root, address: Address) -> Result<Vec<Holder>, HostError> {
    let Below { nodes, .. } = below::look(root, &format!("{DEVICES}/{address}/vfio-dev"));
    let nodes = nodes.into_iter().chain(group_node(root, address));
    let targets: Vec<_> = nodes.map(|node| (address, node)).collect();
    processes::holders(root, &targets)
}

/// `/dev/vfio/N` of the function's group.
fn group_node(root: &Root, address: Address) -> Option<Node> {
    let group: u32 =
        root.link_name(&format!("{DEVICES}/{address}/iommu_group")).ok()?.parse().ok()?;
    let number = root.text(&format!("sys/class/vfio/{group}/dev")).ok()?;
    Some(Node {
        number: below::device_number(&number)?,
        block: false,
        path: format!("/dev/vfio/{group}"),
    })
}

/// `/dev/nvidiaN`: the driver's own numbering, which is in no class of sysfs.
fn nvidia_node(root: &Root, address: Address) -> Option<Node> {
    let text = root.text(&format!("proc/driver/nvidia/gpus/{address}/information")).ok()?;
    let minor = text.lines().find_map(|line| line.strip_prefix("Device Minor:"))?;
    let minor: u32 = minor.trim().parse().ok()?;
    Some(Node { number: (NVIDIA, minor), block: false, path: format!("/dev/nvidia{minor}") })
}
