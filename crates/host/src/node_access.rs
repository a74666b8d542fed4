//! Owner and mode of a node of VFIO's.

use model::{HostError, NodeAccess, Observed};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use crate::problem;
use crate::root::{Root, Status};

/// Where VFIO's nodes are.
pub const NODES: &str = "dev/vfio";

/// Who may open a node; `None` where it is not there.
pub fn read(root: &Root, path: &str) -> Result<Option<NodeAccess>, HostError> {
    match root.stat(path) {
        Ok(Status { uid, gid, mode, .. }) => Ok(Some(NodeAccess { uid, gid, mode })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(problem::file(root, "look at", path, errno)),
    }
}

/// Who may open it, compared with before and after.
pub fn observe(
    root: &Root,
    path: &str,
    from: &NodeAccess,
    to: &NodeAccess,
) -> Result<Observed, HostError> {
    let Some(now) = read(root, path)? else { return Ok(Observed::Absent) };
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

/// Gives a node in a directory to another user.
pub fn grant(root: &Root, place: &str, name: &str, to: &NodeAccess) -> Result<(), HostError> {
    let path = format!("{place}/{name}");
    let failed = |action: &str, errno| problem::file(root, action, &path, errno);
    let nodes = root.dir(place).map_err(|errno| failed("look for", errno))?;
    let dir = nodes.handle().map_err(|errno| failed("change the owner of", errno))?;
    let look = || rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    let stat = look().map_err(|errno| failed("look for", errno))?;
    if root.is_host() && FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        let reason = "it is no character device";
        return Err(problem::because(root, "change the owner of", &path, Errno::NOTTY, reason));
    }
    let owner = (Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)));
    rustix::fs::chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed("change the owner of", errno))?;
    // By name: an O_PATH descriptor cannot be used before fchmodat2 (Linux 6.6). Only root writes in this directory.
    rustix::fs::chmodat(dir, name, Mode::from_raw_mode(to.mode), AtFlags::empty())
        .map_err(|errno| failed("change the mode of", errno))
}
