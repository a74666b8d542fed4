//! What to do about a use of a device by the host itself: a mount, swap space, a volume, a route.

use crate::Holder;

/// The mount points that a running host needs.
const NEEDED: [&str; 5] = ["/", "/boot", "/boot/efi", "/usr", "/var"];

impl Holder {
    /// How to end this use of the device, if it is not by a process. It is never done automatically: unmounting the
    /// wrong disk can do great harm.
    #[must_use]
    pub fn host_use_remedy(&self) -> String {
        let by = &self.by;
        let place = self.user.strip_prefix("mounted at ");
        if place.is_some_and(|place| NEEDED.contains(&place)) {
            return "the host itself runs from this drive, so it cannot be handed over; choose another drive".into();
        }
        if let Some(place) = place {
            return format!(
                "run `umount {place}`, and remove it from /etc/fstab while a machine has the drive"
            );
        }
        if self.user == "swap space" {
            return format!(
                "run `swapoff {by}`, and remove it from /etc/fstab while a machine has the drive"
            );
        }
        if self.user.contains("default route") {
            return "move the host's default route to another interface first (`ip route show default` shows it), or \
                    choose another device"
                .into();
        }
        "first remove it from its volume, array or pool (vgreduce, mdadm, zpool), or choose another drive".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(user: &str) -> String {
        let address = "0000:00:03.0".parse().unwrap();
        let (user, by) = (user.to_owned(), "/dev/nvme0n1p2".to_owned());
        Holder { address, pid: None, started: None, program: None, user, by, mdev: None }
            .host_use_remedy()
    }

    #[test]
    fn each_use_has_its_own_remedy() {
        assert!(remedy("mounted at /").contains("cannot be handed over"));
        assert!(remedy("mounted at /srv").contains("`umount /srv`"));
        assert!(remedy("swap space").contains("`swapoff /dev/nvme0n1p2`"));
        assert!(remedy("the host's default route, over br0").contains("`ip route show default`"));
        assert!(remedy("part of the RAID md0").contains("mdadm"));
    }
}
