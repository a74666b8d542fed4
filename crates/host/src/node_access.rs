//! Owner and mode of a VFIO device node.

use model::{HostError, NodeAccess, Observed};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use crate::problem;
use crate::root::{Root, Status};

/// The directory of the VFIO nodes.
pub const NODES: &str = "dev/vfio";

/// Owner and mode of a node; `None` if it does not exist.
pub fn read(root: &Root, path: &str) -> Result<Option<NodeAccess>, HostError> {
    match root.stat(path) {
        Ok(Status { uid, gid, mode, .. }) => Ok(Some(NodeAccess { uid, gid, mode })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(problem::file(root, "stat", path, errno)),
    }
}

/// Compares owner and mode with those before and after the step.
pub fn observe(
    root: &Root,
    path: &str,
    from: &NodeAccess,
    to: &NodeAccess,
) -> Result<Observed, HostError> {
    let Some(now) = read(root, path)? else { return Ok(Observed::Absent) };
    // udev may have set another mode by the administrator's rules. A node that root owns is not granted to any user.
    let unclaimed = from.uid == NodeAccess::KERNEL_DEFAULT.uid && now.uid == from.uid;
    Ok(if now == *to {
        Observed::After
    } else if now == *from || unclaimed {
        Observed::Before
    } else {
        Observed::Other(format!("uid {}, gid {}, mode {:o}", now.uid, now.gid, now.mode))
    })
}

/// Changes the owner and the mode of a node in a directory.
pub fn grant(root: &Root, folder: &str, name: &str, to: &NodeAccess) -> Result<(), HostError> {
    let path = format!("{folder}/{name}");
    let failed = |action: &str, errno| problem::file(root, action, &path, errno);
    let nodes = root.dir(folder).map_err(|errno| failed("find", errno))?;
    let dir = nodes.handle().map_err(|errno| failed("change the owner of", errno))?;
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    let stat = stat.map_err(|errno| failed("find", errno))?;
    if root.is_host() && FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        let reason = "not a character device";
        return Err(problem::because(root, "change the owner of", &path, Errno::NOTTY, reason));
    }
    let owner = (Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)));
    rustix::fs::chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed("change the owner of", errno))?;
    // By name: an O_PATH descriptor cannot be used before fchmodat2 (Linux 6.6). Only root writes in this directory.
    rustix::fs::chmodat(dir, name, Mode::from_raw_mode(to.mode), AtFlags::empty())
        .map_err(|errno| failed("change the mode of", errno))
}
