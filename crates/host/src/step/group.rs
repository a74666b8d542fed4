//! Who may open the node of an IOMMU group, `/dev/vfio/N`.

use std::collections::BTreeMap;

use model::{Address, HostError, NodeAccess, Observed};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use crate::inventory::DEVICES;
use crate::problem;
use crate::root::{Dir, Root, Status};

const NODES: &str = "dev/vfio";

/// Owner and mode of the nodes that exist.
pub fn nodes(root: &Root, groups: &[u32]) -> Result<BTreeMap<u32, NodeAccess>, HostError> {
    let mut nodes = BTreeMap::new();
    for group in groups {
        if let Some(access) = node(root, *group)? {
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
    let Some(now) = node(root, group)? else { return Ok(Observed::Absent) };
    // udev may have given a new node another mode by the administrator's rules. While root owns it, nobody has it yet.
    let unclaimed = from.uid == NodeAccess::KERNEL_DEFAULT.uid && now.uid == from.uid;
    Ok(if now == *to {
        Observed::After
    } else if now == *from || unclaimed {
        Observed::Before
    } else {
        Observed::Other(format!("it with uid {}, gid {}, mode {:o}", now.uid, now.gid, now.mode))
    })
}

/// Gives the node to another user.
pub fn grant(root: &Root, group: u32, to: &NodeAccess) -> Result<(), HostError> {
    let path = format!("{NODES}/{group}");
    let failed = |action: &str, errno| problem::file(root, action, &path, errno);
    let nodes = root.dir(NODES).map_err(|errno| failed("look for", errno))?;
    let dir = nodes.handle().map_err(|errno| failed("change the owner of", errno))?;
    let name = group.to_string();
    let look = || rustix::fs::statat(dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
    let stat = look().map_err(|errno| failed("look for", errno))?;
    if root.is_host() && FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        let reason = "it is no character device";
        return Err(problem::because(root, "change the owner of", &path, Errno::NOTTY, reason));
    }
    let owner = (Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)));
    rustix::fs::chownat(dir, name.as_str(), owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed("change the owner of", errno))?;
    // By name: an O_PATH descriptor cannot be used before fchmodat2 (Linux 6.6). Only root writes in this directory.
    rustix::fs::chmodat(dir, name.as_str(), Mode::from_raw_mode(to.mode), AtFlags::empty())
        .map_err(|errno| failed("change the mode of", errno))
}

fn node(root: &Root, group: u32) -> Result<Option<NodeAccess>, HostError> {
    let path = format!("{NODES}/{group}");
    match root.stat(&path) {
        Ok(Status { uid, gid, mode, .. }) => Ok(Some(NodeAccess { uid, gid, mode })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(problem::file(root, "look at", &path, errno)),
    }
}
