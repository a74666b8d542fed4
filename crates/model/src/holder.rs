//! What a user of a device is, and how to end the use.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Address;

/// Where the host itself runs from.
const HOST_MOUNTS: [&str; 5] = ["/", "/boot", "/boot/efi", "/usr", "/var"];

/// A kind of user of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderKind {
    /// A process that has a node open or mapped.
    #[default]
    Process,
    /// A mounted file system on a drive.
    Mount,
    /// A mounted directory that a host around this one shares.
    Share,
    /// Swap space on a drive.
    Swap,
    /// A volume, an array or a pool that a drive is part of.
    Volume,
    /// The kernel, in a way that it does not show.
    Kernel,
    /// The host's network: routes, addresses, bridges, sessions with file and storage servers.
    Network,
}

/// A user of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The function in use.
    pub address: Address,
    /// What kind of user it is.
    #[serde(default)]
    pub kind: HolderKind,
    /// The pid, if the user is a process.
    pub pid: Option<u32>,
    /// When that process started, in clock ticks since boot: with the pid it identifies the process.
    #[serde(default)]
    pub started: Option<u64>,
    /// The process's program (`/proc/PID/comm`).
    #[serde(default)]
    pub program: Option<String>,
    /// The user, in words: `qemu-system-x86 (pid 4711, libvirtd.service)`, `mounted at /srv`, `port of br0`.
    pub user: String,
    /// What it uses: a path such as `/dev/nvidia0`, or an interface.
    pub by: String,
    /// The mediated device in use, if it is not the function itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mdev: Option<Uuid>,
    /// Of a use by the network: the interface that has the address, route or ports, if this network namespace has it. It is
    /// `by`, or a bridge, bond, VLAN, ... that is built on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

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
        match self.kind {
            HolderKind::Mount | HolderKind::Share | HolderKind::Volume => {
                format!("is {user} ({by})")
            }
            HolderKind::Swap => format!("is used as {user} ({by})"),
            HolderKind::Network => format!("is used by the host's network: {user} on {by}"),
            HolderKind::Process | HolderKind::Kernel => format!("is used by {user} ({by})"),
        }
    }

    /// The user and what it uses: `Xorg (pid 12) by /dev/dri/card1`, `port of br0 on eth0`.
    #[must_use]
    pub fn user_and_use(&self) -> String {
        let Self { user, by, .. } = self;
        match self.kind {
            HolderKind::Network => format!("{user} on {by}"),
            _ => format!("{user} by {by}"),
        }
    }

    /// Whether it is a VMM: its machine has the device.
    pub fn is_vmm(&self) -> bool {
        self.kind == HolderKind::Process && self.by.starts_with("/dev/vfio/")
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

    /// A mount, swap space, a volume or the network: unmounting the wrong disk or removing the wrong route can do great
    /// harm, so Handover never does it.
    fn how_to_end_host_use(&self) -> String {
        let Self { user, by, .. } = self;
        match self.kind {
            HolderKind::Mount => self.how_to_unmount("drive"),
            HolderKind::Share => self.how_to_unmount("share"),
            HolderKind::Swap => format!(
                "run `swapoff {by}`, and remove it from /etc/fstab while a machine has the drive"
            ),
            HolderKind::Network if self.namespace().is_some() => {
                let at = self.namespace().unwrap_or_default();
                format!(
                    "move {by} back with `nsenter --net={at} ip link set {by} netns 1` when nothing there uses it (`nsenter \
                     --net={at} ip address` and `... ip route show table all` show its uses), or choose another device"
                )
            }
            HolderKind::Network => {
                let shown = self.interface.as_ref().map_or_else(String::new, |at| {
                    format!(
                        " (`ip address show dev {at}` and `ip route show table all dev {at}` show what {at} is used for)"
                    )
                });
                format!(
                    "first move this to another interface, or end it: {user}{shown}, or choose another device"
                )
            }
            HolderKind::Process | HolderKind::Volume | HolderKind::Kernel => {
                "first remove it from its volume, array or pool (vgreduce, mdadm, zpool), or choose another drive"
                    .into()
            }
        }
    }

    /// The file of the network namespace that has its physical interface, if only a mount keeps that namespace.
    fn namespace(&self) -> Option<&str> {
        let at = self.user.strip_prefix("network namespace at ")?;
        // Quoting is left to names that need none.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte);
        let all_plain = at.bytes().chain(self.by.bytes()).all(plain);
        (self.kind == HolderKind::Network && all_plain).then_some(at)
    }

    /// How to end a mount, unless the host runs from it.
    fn how_to_unmount(&self, what: &str) -> String {
        let place = self.user.strip_prefix("mounted at ").unwrap_or(&self.user);
        if HOST_MOUNTS.contains(&place) {
            return format!(
                "the host itself runs from this {what}, so it cannot be handed over; choose another device"
            );
        }
        format!(
            "run `umount {place}`, and remove it from /etc/fstab while a machine has the {what}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(kind: HolderKind, user: &str, by: &str) -> Holder {
        let address = "0000:00:03.0".parse().unwrap();
        let (user, by) = (user.to_owned(), by.to_owned());
        Holder {
            address,
            kind,
            pid: None,
            started: None,
            program: None,
            user,
            by,
            mdev: None,
            interface: None,
        }
    }

    #[test]
    fn each_use_is_a_sentence() {
        let says = |kind, user: &str| holder(kind, user, "/dev/sda1").predicate();
        assert_eq!(says(HolderKind::Mount, "mounted at /srv"), "is mounted at /srv (/dev/sda1)");
        assert_eq!(says(HolderKind::Swap, "swap space"), "is used as swap space (/dev/sda1)");
        let raid = says(HolderKind::Volume, "part of the RAID md0");
        assert_eq!(raid, "is part of the RAID md0 (/dev/sda1)");
        let route = holder(HolderKind::Network, "the host's default route", "eth0");
        assert_eq!(
            route.predicate(),
            "is used by the host's network: the host's default route on eth0"
        );
        assert_eq!(route.user_and_use(), "the host's default route on eth0");
        let kernel = says(HolderKind::Kernel, "a kernel file system or volume manager");
        assert_eq!(kernel, "is used by a kernel file system or volume manager (/dev/sda1)");
    }

    #[test]
    fn each_use_has_its_own_remedy() {
        let remedy = |kind, user: &str| holder(kind, user, "/dev/nvme0n1p2").how_to_end();
        assert!(remedy(HolderKind::Mount, "mounted at /").contains("cannot be handed over"));
        assert!(remedy(HolderKind::Mount, "mounted at /srv").contains("`umount /srv`"));
        assert!(remedy(HolderKind::Swap, "swap space").contains("`swapoff /dev/nvme0n1p2`"));
        assert!(remedy(HolderKind::Volume, "part of the RAID md0").contains("mdadm"));
        let user = "the host's default route, over br0";
        let at = Some("br0".to_owned());
        let route = Holder { interface: at, ..holder(HolderKind::Network, user, "eth0") };
        assert!(route.how_to_end().contains("default route, over br0"));
        assert!(route.how_to_end().contains("`ip address show dev br0`"));
        assert!(route.how_to_end().contains("`ip route show table all dev br0`"));
        // `ip` does not show the interfaces of other network namespaces.
        let elsewhere = holder(HolderKind::Network, "network namespace of nginx (pid 7)", "net1");
        assert!(!elsewhere.how_to_end().contains("`ip "));
        let named = holder(HolderKind::Network, "network namespace at /run/netns/vpp", "eth0");
        let back = "`nsenter --net=/run/netns/vpp ip link set eth0 netns 1`";
        assert!(named.how_to_end().contains(back), "{}", named.how_to_end());
        let odd = holder(HolderKind::Network, "network namespace at /run/$(x)", "eth0");
        assert!(!odd.how_to_end().contains("nsenter"));
    }

    /// A share is told from a drive by its kind, whatever its names are.
    #[test]
    fn the_kind_says_what_it_is_and_not_the_words() {
        let share = holder(HolderKind::Share, "mounted at /home", "/dev/share");
        assert!(share.how_to_end().contains("while a machine has the share"));
        let drive = holder(HolderKind::Mount, "mounted at /home", "virtiofs share home");
        assert!(drive.how_to_end().contains("while a machine has the drive"));
        let vmm = holder(HolderKind::Network, "port of x", "/dev/vfio/1");
        assert!(!vmm.is_vmm());
    }
}
