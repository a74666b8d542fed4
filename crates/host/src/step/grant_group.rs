//! Owner and mode of the node of an IOMMU group, `/dev/vfio/N`.

use std::collections::BTreeMap;

use model::{Address, HostError, NodeAccess, Observed};
use rustix::io::Errno;

use crate::function_files::{DEVICES, directory};
use crate::node_access::{self, NODES};
use crate::problem;
use crate::root::Root;

/// Owner and mode of the nodes that exist.
pub fn nodes(root: &Root, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError> {
    let mut nodes = BTreeMap::new();
    for group in groups {
        if let Some(access) = node_access::read(root, &format!("{NODES}/{group}"))? {
            nodes.insert(*group, access);
        }
    }
    Ok(nodes)
}

/// Whether the function is still in that group, and the owner and mode of the group's node.
pub fn observe(
    root: &Root,
    address: Address,
    group: u32,
    from: &NodeAccess,
    to: &NodeAccess,
) -> Result<Observed, HostError> {
    let Some(dir) = directory(root, address)? else { return Ok(Observed::Absent) };
    match dir.link_name("iommu_group") {
        Ok(now) if now == group.to_string() => {}
        Ok(now) => return Ok(Observed::Other(format!("{address} in IOMMU group {now}"))),
        Err(Errno::NOENT) => {
            return Ok(Observed::Other(format!("{address} in no IOMMU group")));
        }
        Err(errno) => {
            let path = format!("{DEVICES}/{address}/iommu_group");
            return Err(problem::file(root, "read", &path, errno));
        }
    }
    node_access::observe(root, &format!("{NODES}/{group}"), from, to)
}

/// Describes a node that does not exist.
pub fn missing(group: u32) -> String {
    format!("no /dev/vfio/{group}: no member of IOMMU group {group} is bound to a vfio driver")
}

/// Changes the owner and the mode of the node.
pub fn grant(root: &Root, group: u32, to: &NodeAccess) -> Result<(), HostError> {
    node_access::grant(root, NODES, &group.to_string(), to)
}
