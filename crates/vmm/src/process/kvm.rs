//! Whether a machine's user may use KVM.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// How a user other than root opens `/dev/kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kvm {
    /// The group that may open it, if others may not.
    pub group: Option<u32>,
}

impl Kvm {
    /// KVM below this root; `None` if it does not work or a machine's user may not open it.
    pub fn here(root: &Path) -> Option<Self> {
        let path = root.join("dev/kvm");
        // A static node can exist without the module (kmod-static-nodes), so it must be opened.
        fs::OpenOptions::new().read(true).write(true).open(&path).ok()?;
        let metadata = fs::metadata(&path).ok()?;
        Self::for_node(metadata.permissions().mode(), metadata.gid())
    }

    /// From the mode and group of `/dev/kvm`. A machine never gets root's group.
    const fn for_node(mode: u32, gid: u32) -> Option<Self> {
        if mode & 0o006 == 0o006 {
            Some(Self { group: None })
        } else if mode & 0o060 == 0o060 && gid != 0 {
            Some(Self { group: Some(gid) })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_used_only_where_the_machines_user_may_open_it() {
        assert_eq!(Kvm::for_node(0o20_666, 0), Some(Kvm { group: None }));
        assert_eq!(Kvm::for_node(0o20_660, 108), Some(Kvm { group: Some(108) }));
        assert_eq!(Kvm::for_node(0o20_660, 0), None);
        assert_eq!(Kvm::for_node(0o20_600, 0), None);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(Kvm::here(empty.path()), None);
    }
}
