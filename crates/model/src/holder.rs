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
            (None, _) => self.how_to_end_kernel_use(),
        }
    }

    /// A mount, a volume or a route.
    fn how_to_end_kernel_use(&self) -> String {
        match self.user.strip_prefix("mounted at ") {
            Some(place) if HOST_MOUNTS.contains(&place) => {
                "the host itself runs from it; hand over another drive".into()
            }
            Some(place) => format!(
                "umount {place}, and remove it from /etc/fstab while a machine has the drive"
            ),
            None if self.user.starts_with("the host's default route") => {
                "move the host's default route to another interface first".into()
            }
            None => "first remove it from its volume, array, pool or swap space (vgreduce, mdadm, zpool, swapoff), or \
                     hand over another drive"
                .into(),
        }
    }
}
