//! Who may open the node of an IOMMU group, `/dev/vfio/N`.

use std::collections::BTreeMap;

use model::{Address, HostError, NodeAccess, Observed};
use rustix::io::Errno;

use super::access::{self, NODES};
use crate::inventory::DEVICES;
use crate::problem;
use crate::root::{Dir, Root};

/// Owner and mode of the nodes that exist.
pub fn nodes(root: &Root, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError> {
    let mut nodes = BTreeMap::new();
    for group in groups {
        if let Some(access) = access::read(root, &format!("{NODES}/{group}"))? {
            nodes.insert(*group, access);
        }
    }
    Ok(nodes)
}

/// Whether the function is in that group still, and who may open its node.
pub fn observe(
    root: &Root,
    dir: &Dir,
    address: Address,
    group: u32,
    from: &NodeAccess,
    to: &NodeAccess,
) -> Result<Observed, HostError> {
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
    access::observe(root, &format!("{NODES}/{group}"), from, to)
}

/// Gives the node to another user.
pub fn grant(root: &Root, group: u32, to: &NodeAccess) -> Result<(), HostError> {
    access::grant(root, NODES, &group.to_string(), to)
}
