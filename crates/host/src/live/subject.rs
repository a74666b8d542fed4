//! The object of a uevent, if it is part of an inventory.

use model::{Address, Node};
use uuid::Uuid;

use crate::uevent::Uevent;

/// An object to read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A function.
    Function {
        /// Its address.
        address: Address,
        /// What happened to it.
        event: FunctionEvent,
    },
    /// A node or interface that a driver created for a function.
    Node {
        /// Its kind.
        node: Node,
        /// Its name.
        name: String,
        /// Its link in sysfs.
        link: String,
    },
    /// A namespace over several NVMe controllers.
    Namespace {
        /// Its name.
        name: String,
        /// Its link in sysfs.
        link: String,
    },
    /// A mediated device.
    Mdev(Uuid),
    /// The node of a VFIO group.
    VfioGroup {
        /// The group's number.
        group: u32,
        /// The link of its node in sysfs.
        link: String,
    },
    /// NUMA nodes, their processors and memory.
    Numa,
    /// The kernel's passthrough support.
    Support,
}

/// What happened to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionEvent {
    /// It was removed. A function that exists now was added later.
    Removed,
    /// A driver was bound or unbound: probing is over.
    Settled,
    /// Anything else: its driver may still be probing.
    Other,
}

impl Subject {
    /// The objects of a uevent; for a renamed network interface, those of both names.
    pub fn of(event: &Uevent) -> Vec<Self> {
        let name = event.name();
        let number =
            |dir: &str| event.number.map(|(major, minor)| format!("{dir}/{major}:{minor}"));
        let node = |node: Node, name: &str, link: Option<String>| {
            link.map(|link| Self::Node { node, name: name.to_owned(), link })
        };
        let interface =
            |name: &str| node(Node::Interface, name, Some(format!("sys/class/net/{name}")));
        match event.subsystem.as_str() {
            "pci" => {
                let event = match event.action.as_str() {
                    "remove" => FunctionEvent::Removed,
                    "bind" | "unbind" => FunctionEvent::Settled,
                    _ => FunctionEvent::Other,
                };
                Vec::from_iter(name.parse().ok().map(|address| Self::Function { address, event }))
            }
            "net" => event.old_name().into_iter().chain([name]).filter_map(interface).collect(),
            "drm" => Vec::from_iter(node(Node::Drm, name, number("sys/dev/char"))),
            "vfio-dev" if of_mdev(&event.path) => Vec::new(),
            "vfio-dev" => Vec::from_iter(node(Node::VfioDevice, name, number("sys/dev/char"))),
            "block" if event.kind.as_deref() == Some("partition") => Vec::new(),
            "block" if event.path.contains("/nvme-subsystem/") => {
                let link = number("sys/dev/block");
                Vec::from_iter(link.map(|link| Self::Namespace { name: name.to_owned(), link }))
            }
            "block" => Vec::from_iter(node(Node::BlockDevice, name, number("sys/dev/block"))),
            "mdev" => Vec::from_iter(name.parse().ok().map(Self::Mdev)),
            "vfio" => {
                let found = name.parse().ok().zip(number("sys/dev/char"));
                Vec::from_iter(found.map(|(group, link)| Self::VfioGroup { group, link }))
            }
            "node" | "cpu" | "memory" => vec![Self::Numa],
            // Drivers, modules, /dev/iommu, IOMMUs.
            "drivers" | "module" | "misc" | "iommu" => vec![Self::Support],
            _ => Vec::new(),
        }
    }
}

/// Whether a VFIO device belongs to a mediated device, `.../UUID/vfio-dev/vfio3`, and not to its parent.
fn of_mdev(path: &str) -> bool {
    path.rsplit('/').nth(2).is_some_and(|parent| parent.parse::<Uuid>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(action: &str, path: &str, subsystem: &str, more: &[&str]) -> Vec<Subject> {
        let mut message = format!("{action}@{path}\0SUBSYSTEM={subsystem}\0");
        for line in more {
            message += &format!("{line}\0");
        }
        Subject::of(&Uevent::parse(message.as_bytes()).unwrap())
    }

    #[test]
    fn each_uevent_leads_to_its_object() {
        let card = "/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
        let address: Address = "0000:01:00.0".parse().unwrap();
        let node = |node, name: &str, link: &str| {
            vec![Subject::Node { node, name: name.into(), link: link.into() }]
        };
        let number = ["MAJOR=226", "MINOR=128"];
        for (action, event) in [
            ("add", FunctionEvent::Other),
            ("bind", FunctionEvent::Settled),
            ("remove", FunctionEvent::Removed),
        ] {
            assert_eq!(of(action, card, "pci", &[]), [Subject::Function { address, event }]);
        }
        assert_eq!(
            of("add", &format!("{card}/drm/renderD128"), "drm", &number),
            node(Node::Drm, "renderD128", "sys/dev/char/226:128")
        );
        assert_eq!(
            of("add", &format!("{card}/vfio-dev/vfio0"), "vfio-dev", &number),
            node(Node::VfioDevice, "vfio0", "sys/dev/char/226:128")
        );
        assert_eq!(
            of("add", "/devices/virtual/vfio/12", "vfio", &["MAJOR=242", "MINOR=1"]),
            [Subject::VfioGroup { group: 12, link: "sys/dev/char/242:1".into() }]
        );
        let old = format!("DEVPATH_OLD={card}/net/eth0");
        let renamed = of("move", &format!("{card}/net/lan0"), "net", &[&old]);
        assert_eq!(
            renamed,
            [
                node(Node::Interface, "eth0", "sys/class/net/eth0"),
                node(Node::Interface, "lan0", "sys/class/net/lan0"),
            ]
            .concat()
        );
        let head = "/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
        let namespace =
            Subject::Namespace { name: "nvme0n1".into(), link: "sys/dev/block/259:0".into() };
        assert_eq!(of("add", head, "block", &["MAJOR=259", "MINOR=0"]), [namespace]);
        let uuid = uuid::uuid!("6f5ab6c4-6cb2-4b1a-b5b4-9c2cf5b1b2f0");
        assert_eq!(of("add", &format!("{card}/{uuid}"), "mdev", &[]), [Subject::Mdev(uuid)]);
        assert_eq!(of("add", "/bus/pci/drivers/vfio-pci", "drivers", &[]), [Subject::Support]);
        assert_eq!(of("online", "/devices/system/cpu/cpu3", "cpu", &[]), [Subject::Numa]);
    }

    #[test]
    fn objects_outside_an_inventory_are_skipped() {
        let card = "/devices/pci0000:00/0000:00:01.0";
        for (path, subsystem, more) in [
            // A connector of a display: it has no node.
            ("/drm/card0/card0-DP-1", "drm", &[][..]),
            ("/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1", "block", &["DEVTYPE=partition"]),
            ("/usb1/1-1", "usb", &["MAJOR=189", "MINOR=1"]),
            ("/0000:00:01.0:pcie001", "pci_express", &[]),
            ("/mdev_supported_types/x", "mdev", &[]),
            (
                "/6f5ab6c4-6cb2-4b1a-b5b4-9c2cf5b1b2f0/vfio-dev/vfio3",
                "vfio-dev",
                &["MAJOR=511", "MINOR=3"],
            ),
        ] {
            assert_eq!(of("add", &format!("{card}{path}"), subsystem, more), [], "{path}");
        }
    }
}
