//! Device nodes that machines need, with their owners and modes.

use model::doctor::{NodeFacts, Platform};
use rustix::io::Errno;

use super::unseen;
use crate::root::Root;

const FIXED: [&str; 3] = ["dev/kvm", "dev/vfio/vfio", "dev/iommu"];

/// Reads the nodes that exist.
pub fn read(root: &Root, platform: &mut Platform) {
    if !root.exists("dev") {
        return platform.unseen.push(unseen("device nodes", "dev", Errno::NOENT));
    }
    let groups = root.names("dev/vfio").unwrap_or_default();
    let groups = groups.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let groups = groups.map(|name| format!("dev/vfio/{name}"));
    for path in FIXED.into_iter().map(str::to_owned).chain(groups) {
        let Ok(stat) = root.stat(&path) else { continue };
        let facts = NodeFacts { mode: stat.mode, uid: stat.uid, gid: stat.gid };
        platform.nodes.insert(format!("/{path}"), facts);
    }
}
