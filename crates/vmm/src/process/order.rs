//! The daemon's order for `handover launch`.

use std::path::PathBuf;

use model::{BlockNumber, CardLink, Mac, NameServerAlias};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::device_files::DeviceFile;

/// Stands for the number of an inherited descriptor in arguments.
pub const FD: &str = "{fd}";

/// Stands for the number of the descriptor of vhost-net beside that of a network card.
pub const VHOST_FD: &str = "{vhost}";

/// A VMM to start, and its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The machine.
    pub id: Uuid,
    /// The root of sysfs, procfs and devfs.
    pub root: PathBuf,
    /// The run directory.
    pub run_dir: PathBuf,
    /// The user and group that the VMM runs as.
    pub uid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// How much memory it may lock, if it has devices: VFIO pins all guest memory. In bytes.
    pub memlock: Option<u64>,
    /// The processors of the host on which its threads run, besides virtual processors that are pinned; none: all.
    #[serde(default)]
    pub cpus: Vec<u32>,
    /// The VMM's executable.
    pub program: PathBuf,
    /// Its arguments for the inherited control socket, with [`FD`] for the descriptor. They come first. If
    /// there are none, it gets no control socket.
    #[serde(default)]
    pub control_args: Vec<String>,
    /// Its arguments for the inherited console socket, like those for the control socket.
    #[serde(default)]
    pub console_args: Vec<String>,
    /// Its arguments for the inherited socket that leads to the agent in the guest, likewise.
    #[serde(default)]
    pub agent_args: Vec<String>,
    /// Files that it inherits, opened by root: its user cannot open them.
    #[serde(default)]
    pub files: Vec<OpenFile>,
    /// The nodes of its devices, opened by root, at fixed descriptors.
    #[serde(default)]
    pub devices: Vec<DeviceFile>,
    /// Its network cards on bridges and interfaces of the host.
    #[serde(default)]
    pub cards: Vec<HostCard>,
    /// Programs that serve it. They start before it.
    #[serde(default)]
    pub helpers: Vec<Helper>,
    /// Its other arguments.
    pub args: Vec<String>,
}

/// A network card that is connected to a bridge or an interface of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCard {
    /// The name of its interface on the host.
    pub interface: String,
    /// How it is connected.
    pub link: CardLink,
    /// Its hardware address.
    pub mac: Mac,
    /// The VMM's arguments, with [`FD`] for the descriptor.
    pub vmm_args: Vec<String>,
    /// The same with vhost-net, whose descriptor is [`VHOST_FD`].
    pub vhost_args: Vec<String>,
}

/// A program that serves one machine, such as passt: it runs as the machine's user, and is connected to the VMM by a pair
/// of sockets. When it is ready, it goes to the background; it ends when the VMM closes its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helper {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, with [`FD`] for its end of the pair.
    pub args: Vec<String>,
    /// The VMM's arguments, with [`FD`] for the VMM's end.
    pub vmm_args: Vec<String>,
    /// What it may reach of this host's loopback.
    #[serde(default)]
    pub loopback: Loopback,
}

/// What a program that serves a machine may reach of this host's loopback addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loopback {
    /// Whatever it likes: it decides itself what a guest may reach.
    #[default]
    Open,
    /// Only the host's name server, by its alias. The kernel must refuse everything else, or the machine does not start. This
    /// then holds for all processes of the machine.
    Closed {
        /// The name server, if it has a loopback address.
        name_server: Option<NameServerAlias>,
    },
}

/// A file that the VMM inherits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// The file. A link in its last component is refused, unless it is a block device.
    pub path: PathBuf,
    /// If it is a block device: the number that it must have. It is opened exclusively.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<BlockNumber>,
    /// Whether the VMM writes to it.
    pub writable: bool,
    /// The VMM's arguments, with [`FD`] for the descriptor.
    pub vmm_args: Vec<String>,
}

/// Arguments with the number of an inherited descriptor.
pub fn with_fd(args: &[String], fd: i32) -> impl Iterator<Item = String> {
    args.iter().map(move |argument| argument.replace(FD, &fd.to_string()))
}

/// Arguments with the numbers of the descriptors of a network card and of vhost-net.
pub fn with_vhost(args: &[String], card: i32, vhost: i32) -> impl Iterator<Item = String> {
    with_fd(args, card).map(move |argument| argument.replace(VHOST_FD, &vhost.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            id: Uuid::from_u128(1),
            root: "/".into(),
            run_dir: "/run/handover".into(),
            uid: 1_900_000_000,
            groups: vec![108],
            memlock: Some(1 << 31),
            cpus: vec![2, 3],
            program: "qemu-system-x86_64".into(),
            control_args: vec!["--api-socket".into(), "fd={fd}".into()],
            console_args: vec!["--serial".into(), "fd={fd}".into()],
            agent_args: vec!["--agent".into(), "fd={fd}".into()],
            files: vec![OpenFile {
                path: "/var/lib/handover/volumes/a/disk".into(),
                block: Some((8, 16)),
                writable: true,
                vmm_args: vec!["-add-fd".into(), "fd={fd},set=0".into()],
            }],
            devices: vec![DeviceFile {
                path: "/dev/iommu".into(),
                number: (10, 124),
                descriptor: 200,
            }],
            cards: vec![HostCard {
                interface: "ho-1a2b3c4d-0".into(),
                link: CardLink::Bridge { bridge: "br0".into() },
                mac: "52:54:00:12:34:56".parse().unwrap(),
                vmm_args: vec!["-netdev".into(), "tap,fd={fd}".into()],
                vhost_args: vec!["-netdev".into(), "tap,fd={fd},vhostfd={vhost}".into()],
            }],
            helpers: vec![Helper {
                program: "passt".into(),
                args: vec!["--fd".into(), FD.into()],
                vmm_args: vec!["-netdev".into(), "stream,addr.str={fd}".into()],
                loopback: Loopback::Closed { name_server: None },
            }],
            args: vec!["-name".into(), "guest=a,,b".into()],
        }
    }

    #[test]
    fn an_order_is_serialized_and_parsed() {
        let text = serde_json::to_vec(&order()).unwrap();
        assert_eq!(serde_json::from_slice::<Order>(&text).unwrap(), order());
    }

    #[test]
    fn a_socket_is_named_by_its_descriptor() {
        let order = order();
        let args = with_fd(&order.control_args, 4);
        assert_eq!(args.collect::<Vec<_>>(), ["--api-socket", "fd=4"]);
    }
}
