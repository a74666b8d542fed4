//! What a user of a device is, and how to end the use.

use crate::Holder;

/// Where the host itself runs from.
const HOST_MOUNTS: [&str; 5] = ["/", "/boot", "/boot/efi", "/usr", "/var"];

impl Holder {
    /// The name of the program, or what else uses the device: `qemu-system-x86`, `mounted at /srv`.
    pub fn name(&self) -> &str {
        self.user.split_once(" (pid ").map_or(&self.user, |(name, _)| name)
    }

    /// The system service that the process runs in. Scopes (sessions, machines) and services of a user's session are
    /// left out: `systemctl stop` must not be suggested for them.
    pub fn service(&self) -> Option<&str> {
        let (_, rest) = self.user.split_once(" (pid ")?;
        let (_, unit) = rest.strip_suffix(')')?.split_once(", ")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c);
        let of_system = unit.ends_with(".service") && !unit.starts_with("user@");
        (of_system && unit.chars().all(plain)).then_some(unit)
    }

    /// What it does with the device: `is used by dpdk (pid 7) (/dev/uio0)`, `is mounted at /srv (/dev/sda1)`.
    #[must_use]
    pub fn predicate(&self) -> String {
        let Self { user, by, .. } = self;
        match user.split(' ').next() {
            Some("mounted" | "part") => format!("is {user} ({by})"),
            Some("swap") => format!("is used as {user} ({by})"),
            _ => format!("is used by {user} ({by})"),
        }
    }

    /// Whether it is a VMM: its machine has the device.
    pub fn is_vmm(&self) -> bool {
        self.pid.is_some() && self.by.starts_with("/dev/vfio/")
    }

    /// How to end the use, in words.
    pub fn how_to_end(&self) -> String {
        match (self.pid, self.service()) {
            (Some(_), _) if self.is_vmm() => {
                format!("shut down the machine of {} first", self.user)
            }
            (Some(_), Some(unit)) => {
                format!("stop the service {unit} while a machine has the device")
            }
            (Some(pid), None) => format!("quit {}, or run `kill {pid}`", self.name()),
            (None, _) => self.how_to_end_host_use(),
        }
    }

    /// A mount, swap space, a volume or a route: unmounting the wrong disk can do great harm, so Handover never does it.
    fn how_to_end_host_use(&self) -> String {
        let by = &self.by;
        let what = if by.starts_with("/dev/") { "drive" } else { "device" };
        let place = self.user.strip_prefix("mounted at ");
        if place.is_some_and(|place| HOST_MOUNTS.contains(&place)) {
            return format!(
                "the host itself runs from this {what}, so it cannot be handed over; choose another device"
            );
        }
        if let Some(place) = place {
            return format!(
                "run `umount {place}`, and remove it from /etc/fstab while a machine has the {what}"
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
            .how_to_end()
    }

    #[test]
    fn each_use_is_a_sentence() {
        let says = |user: &str| {
            let address = "0000:00:03.0".parse().unwrap();
            let (user, by) = (user.to_owned(), "/dev/sda1".to_owned());
            Holder { address, pid: None, started: None, program: None, user, by, mdev: None }
                .predicate()
        };
        assert_eq!(says("mounted at /srv"), "is mounted at /srv (/dev/sda1)");
        assert_eq!(says("swap space"), "is used as swap space (/dev/sda1)");
        assert_eq!(says("part of the RAID md0"), "is part of the RAID md0 (/dev/sda1)");
        let route = "the host's default route";
        assert_eq!(says(route), "is used by the host's default route (/dev/sda1)");
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
