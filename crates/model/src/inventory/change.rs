//! Changes of a function between two reads, for watching a host.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Function, Mdev, Nodes};
use crate::Address;

/// A change of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Change {
    /// The function.
    pub address: Address,
    /// Its display name.
    pub name: String,
    /// The change.
    #[serde(flatten)]
    pub kind: ChangeKind,
}

/// The kinds of changes of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ChangeKind {
    /// It appeared.
    Appeared {
        /// For a virtual function: its physical function.
        physical_function: Option<Address>,
    },
    /// It was linked with its physical function, which the kernel does after the event for the new function
    /// (`pci_iov_sysfs_link` in drivers/pci/iov.c).
    VirtualFunction {
        /// Its physical function.
        physical_function: Address,
    },
    /// It disappeared.
    Gone,
    /// Its driver changed, or was bound or unbound.
    Driver {
        /// The old driver.
        before: Option<String>,
        /// The new driver.
        after: Option<String>,
    },
    /// Its IOMMU group changed.
    Group {
        /// The old group.
        before: Option<u32>,
        /// The new group.
        after: Option<u32>,
    },
    /// The number of its virtual functions changed.
    VirtualFunctions {
        /// The old number.
        before: usize,
        /// The new number.
        after: usize,
    },
    /// Its driver created a node or interface.
    NodeAppeared {
        /// Its kind.
        node: Node,
        /// Its name: `eth0`, `renderD128`, `/dev/vfio/12`.
        name: String,
    },
    /// A node or interface of it disappeared.
    NodeGone {
        /// Its kind.
        node: Node,
        /// Its UUID.
        name: String,
    },
    /// A mediated device of it was created.
    MdevAppeared {
        /// Its UUID.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        uuid: Uuid,
        /// Its type's id.
        type_id: Option<String>,
    },
    /// A mediated device of it was removed.
    MdevGone {
        /// Its UUID.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        uuid: Uuid,
    },
    /// The kernel reported a PCIe error (AER, or a link that went down).
    Error {
        /// The stage of the kernel's error recovery.
        stage: ErrorStage,
    },
}

/// The stage of the kernel's recovery from a PCIe error (`pci_uevent_ers` in drivers/pci/pci-driver.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ErrorStage {
    /// The recovery has started; the function is cut off until it ends.
    Recovering,
    /// It works again.
    Recovered,
    /// The recovery failed; the function is cut off.
    Failed,
}

/// The kinds of nodes and interfaces of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Node {
    /// A network interface.
    Interface,
    /// A disk or a namespace.
    BlockDevice,
    /// A node of the Direct Rendering Manager.
    Drm,
    /// A node of NVIDIA's driver.
    Nvidia,
    /// The node of a VFIO group.
    VfioGroup,
    /// The node of a VFIO device.
    VfioDevice,
}

impl Change {
    /// The changes of a function between two reads. Detail is not compared, nor values that change on their own, such
    /// as power.
    #[must_use]
    pub fn between(before: Option<&Function>, after: Option<&Function>) -> Vec<Self> {
        let mut changes = Vec::new();
        let identity = |f: &Function| (f.vendor, f.device, f.subsystem_vendor, f.subsystem_device);
        match (before, after) {
            (Some(before), Some(after)) if identity(before) == identity(after) => {
                differences(before, after, &mut changes);
            }
            (before, after) => {
                if let Some(before) = before {
                    changes.push(Self::of(before, ChangeKind::Gone));
                }
                if let Some(after) = after {
                    let kind = ChangeKind::Appeared { physical_function: after.physical_function };
                    changes.push(Self::of(after, kind));
                    // Also reports kind it appeared with, so that watchers have its full state.
                    let bare = Function {
                        iommu_group: after.iommu_group,
                        physical_function: after.physical_function,
                        ..Function::unknown(after.address)
                    };
                    differences(&bare, after, &mut changes);
                }
            }
        }
        changes
    }

    /// A change of this function.
    #[must_use]
    pub fn of(function: &Function, kind: ChangeKind) -> Self {
        Self { address: function.address, name: function.title(), kind }
    }
}

/// The changes of one device.
fn differences(before: &Function, after: &Function, changes: &mut Vec<Change>) {
    let mut push = |kind| changes.push(Change::of(after, kind));
    // The end of a virtual function is reported with its disappearance.
    let parent = after.physical_function.filter(|_| before.physical_function.is_none());
    if let Some(physical_function) = parent {
        push(ChangeKind::VirtualFunction { physical_function });
    }
    if before.iommu_group != after.iommu_group {
        push(ChangeKind::Group { before: before.iommu_group, after: after.iommu_group });
    }
    let (old, new) = (nodes(&before.nodes), nodes(&after.nodes));
    for (node, name) in missing(&old, &new) {
        push(ChangeKind::NodeGone { node, name });
    }
    for uuid in mdevs(&before.mdevs).difference(&mdevs(&after.mdevs)) {
        push(ChangeKind::MdevGone { uuid: *uuid });
    }
    if before.driver != after.driver {
        push(ChangeKind::Driver { before: before.driver.clone(), after: after.driver.clone() });
    }
    for (node, name) in missing(&new, &old) {
        push(ChangeKind::NodeAppeared { node, name });
    }
    let known = mdevs(&before.mdevs);
    for mdev in after.mdevs.iter().filter(|mdev| !known.contains(&mdev.uuid)) {
        push(ChangeKind::MdevAppeared { uuid: mdev.uuid, type_id: mdev.type_id.clone() });
    }
    let (old, new) = (before.virtual_functions().len(), after.virtual_functions().len());
    if old != new {
        push(ChangeKind::VirtualFunctions { before: old, after: new });
    }
}

/// Those of `these` that are not among `others`.
fn missing(these: &[(Node, String)], others: &[(Node, String)]) -> Vec<(Node, String)> {
    these.iter().filter(|node| !others.contains(node)).cloned().collect()
}

fn nodes(nodes: &Nodes) -> Vec<(Node, String)> {
    let named =
        |node, names: &[String]| names.iter().map(|name| (node, name.clone())).collect::<Vec<_>>();
    let mut all = named(Node::Interface, &nodes.interfaces);
    all.extend(named(Node::BlockDevice, &nodes.block_devices));
    all.extend(named(Node::Drm, &nodes.drm));
    all.extend(nodes.nvidia_minor.map(|minor| (Node::Nvidia, format!("/dev/nvidia{minor}"))));
    all.extend(nodes.vfio_group.clone().map(|node| (Node::VfioGroup, node)));
    all.extend(nodes.vfio_device.clone().map(|node| (Node::VfioDevice, node)));
    all
}

fn mdevs(mdevs: &[Mdev]) -> BTreeSet<Uuid> {
    mdevs.iter().map(|mdev| mdev.uuid).collect()
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appeared { physical_function: None } => f.write_str("appeared"),
            Self::Appeared { physical_function: Some(parent) } => {
                write!(f, "appeared, a virtual function of {parent}")
            }
            Self::VirtualFunction { physical_function } => {
                write!(f, "is a virtual function of {physical_function}")
            }
            Self::Gone => f.write_str("gone"),
            Self::Driver { before: None, after: Some(after) } => write!(f, "bound to {after}"),
            Self::Driver { before, after } => {
                let name = |driver: &Option<String>| driver.clone().unwrap_or("none".into());
                write!(f, "driver {} -> {}", name(before), name(after))
            }
            Self::Group { before, after } => {
                let name = |group: &Option<u32>| group.map_or("none".into(), |g| g.to_string());
                write!(f, "IOMMU group {} -> {}", name(before), name(after))
            }
            Self::VirtualFunctions { before, after } => {
                write!(f, "virtual functions {before} -> {after}")
            }
            Self::NodeAppeared { node, name } => write!(f, "{node} {name} appeared"),
            Self::NodeGone { node, name } => write!(f, "{node} {name} gone"),
            Self::MdevAppeared { uuid, type_id: Some(id) } => {
                write!(f, "mediated device {uuid} of type {id} appeared")
            }
            Self::MdevAppeared { uuid, type_id: None } => {
                write!(f, "mediated device {uuid} appeared")
            }
            Self::MdevGone { uuid } => write!(f, "mediated device {uuid} gone"),
            Self::Error { stage } => f.write_str(match stage {
                ErrorStage::Recovering => "has a PCIe error; the kernel is trying to recover",
                ErrorStage::Recovered => "recovered from a PCIe error",
                ErrorStage::Failed => "could not be recovered from a PCIe error",
            }),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface => "network interface",
            Self::BlockDevice => "block device",
            Self::Drm => "display node",
            Self::Nvidia => "node",
            Self::VfioGroup => "VFIO group",
            Self::VfioDevice => "VFIO device",
        })
    }
}
