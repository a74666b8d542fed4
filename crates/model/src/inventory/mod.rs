//! The inventory: an immutable snapshot of the host's hardware.
//!
//! It has two depths. A *listing* wakes and locks no device. *Detail* adds what needs configuration space, the vendor's
//! driver or the device's lock; a worker reads it with a deadline, and only for devices that are awake. The state to
//! restore after a hand-over is in neither, but in [`AsFound`](crate::AsFound), read just before the first step.

mod change;
mod detail;
mod function;
mod gpu_modes;
mod parts;
mod reset;
mod short_title;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use change::{Change, ChangeKind, ErrorStage, Node};
pub use detail::{Acs, Detail, Link, PortType, ResizableBar};
pub use function::{Bar, Function, Nodes, Power, VirtualFunctions, is_vfio};
pub use gpu_modes::{GpuModes, on_or_off};
pub use parts::{Mdev, MdevType, MigInstance, VgpuType, VgpuTypes};
pub use reset::{ResetDomain, ResetReach};
pub use short_title::short_titles;

use crate::Address;

/// The hardware of one host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Inventory {
    /// Every PCI function, by address.
    pub functions: BTreeMap<Address, Function>,
    /// Every IOMMU group, by number.
    pub groups: BTreeMap<u32, Group>,
    /// Every NUMA node, by number; empty if the host reports none.
    pub numa_nodes: BTreeMap<u32, NumaNode>,
    /// The kernel's support for handing devices over.
    pub vfio: VfioSupport,
}

/// One IOMMU group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Group {
    /// The functions in it.
    pub members: Vec<Address>,
    /// The kernel's domain type: `DMA`, `DMA-FQ`, `identity`, ...
    pub domain_type: Option<String>,
    /// Memory that the firmware uses through its functions, `0x7d000000-0x7d0fffff`: regions of type `direct` in
    /// `reserved_regions`. The kernel attaches such a group to no domain of a machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware_memory: Vec<String>,
    /// Its attributes that could not be read, in words: `no reserved_regions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One NUMA node (Documentation/ABI/stable/sysfs-devices-node).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NumaNode {
    /// Its processors as the kernel lists them: `0-15,32-47`.
    pub cpus: String,
    /// The sockets (`physical_package_id`) that these processors are in.
    pub sockets: Vec<u32>,
    /// Memory in bytes.
    pub memory: u64,
    /// The distance to each node, in the order of their numbers; 10 to itself.
    pub distances: Vec<u32>,
}

/// What the running kernel supports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VfioSupport {
    /// Whether an IOMMU is active (`/sys/class/iommu` is not empty).
    pub iommu: bool,
    /// Whether vfio-pci is loaded, built in or loadable.
    pub vfio_pci: bool,
    /// Whether `/dev/vfio/vfio` (type1 containers) is available.
    pub type1: bool,
    /// Whether `/dev/iommu` and per-device nodes are available.
    pub iommufd: bool,
    /// Whether noiommu mode is enabled: it provides no isolation, and is always refused.
    pub unsafe_noiommu: bool,
    /// Whether Linux is the first domain of Xen, which keeps the IOMMU for itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub xen_dom0: bool,
    /// Whether the host is a virtual machine, which gets its IOMMU from outside; read only if no IOMMU is active.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_machine: bool,
    /// Whether VFIO refuses all devices because interrupts are not remapped: a device could forge the host's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmapped_interrupts: bool,
}

impl Inventory {
    /// The function at an address.
    #[must_use]
    pub fn function(&self, address: Address) -> Option<&Function> {
        self.functions.get(&address)
    }

    /// The other functions of the same slot.
    pub fn slot_siblings(&self, address: Address) -> impl Iterator<Item = &Function> {
        let first = Address::new(address.domain(), address.bus(), address.device(), 0);
        let from = first.unwrap_or(address);
        self.functions
            .range(from..)
            .take_while(move |(other, _)| other.same_slot(address))
            .map(|(_, function)| function)
            .filter(move |function| function.address != address)
    }

    /// The functions below a bridge, at any depth.
    pub fn below(&self, bridge: Address) -> impl Iterator<Item = &Function> {
        self.functions.values().filter(move |function| function.path.contains(&bridge))
    }
}
