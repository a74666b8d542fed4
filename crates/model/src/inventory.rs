//! One immutable snapshot of the host's hardware, at *listing* depth: nothing in it wakes or locks a device.
//!
//! What only a device's lock or its configuration space can tell (`driver_override`, the PCIe serial number) is not
//! here but in [`AsFound`](crate::AsFound), read by a worker with a deadline just before a hand-over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Address, Class, Id, Kind};

/// The hardware of one host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Every PCI function, by address.
    pub functions: BTreeMap<Address, Function>,
    /// Every IOMMU group, by number.
    pub groups: BTreeMap<u32, Group>,
    /// What the kernel offers for handing devices over.
    pub vfio: VfioSupport,
}

/// One PCI function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Where it is now. Addresses can change between boots.
    pub address: Address,
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// Subsystem vendor id, where the function has one.
    pub subsystem_vendor: Option<Id>,
    /// Subsystem id, where the function has one.
    pub subsystem_device: Option<Id>,
    /// Class code.
    pub class: Class,
    /// Revision.
    pub revision: u8,
    /// The vendor's name in the system's `pci.ids`.
    pub vendor_name: Option<String>,
    /// The device's name in the system's `pci.ids`.
    pub device_name: Option<String>,
    /// The driver that is bound to it.
    pub driver: Option<String>,
    /// The vfio driver that fits best: the `vfio_pci:` alias with the fewest wildcards, else `vfio-pci`.
    pub vfio_driver: String,
    /// The number of its IOMMU group. Group numbers change between boots.
    pub iommu_group: Option<u32>,
    /// The NUMA node, where the firmware tells it.
    pub numa_node: Option<u32>,
    /// The bridge that it sits behind; `None` on a root bus.
    pub bridge: Option<Address>,
    /// Whether the firmware's console ran on it (`boot_vga`).
    pub boot_vga: bool,
    /// For a virtual function: its physical function.
    pub physical_function: Option<Address>,
    /// For a physical function: how many VFs it could have (`sriov_totalvfs`).
    pub total_vfs: Option<u16>,
    /// For a physical function: its present VFs.
    pub virtual_functions: Vec<Address>,
    /// Base address registers that have a size.
    pub bars: Vec<Bar>,
    /// What the kernel would use to reset it, in its order (`reset_method`, Linux 5.15).
    pub reset_methods: Vec<String>,
    /// Network interfaces that its driver made.
    pub interfaces: Vec<String>,
    /// Block devices that its driver made (whole disks and namespaces).
    pub block_devices: Vec<String>,
    /// What could not be read, in words for a person.
    pub notes: Vec<String>,
}

/// One base address register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// 0 to 5; 6 is the expansion ROM.
    pub index: u8,
    /// Size in bytes.
    pub size: u64,
    /// Whether it decodes I/O ports instead of memory.
    pub io: bool,
    /// Whether it is a 64-bit memory BAR.
    pub is_64bit: bool,
    /// Whether it is prefetchable.
    pub prefetchable: bool,
}

/// One IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The functions in it.
    pub members: Vec<Address>,
    /// The kernel's domain type: `DMA`, `DMA-FQ`, `identity`, ...
    pub domain_type: Option<String>,
}

/// What the running kernel offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfioSupport {
    /// Whether an IOMMU is there and on (`/sys/class/iommu` is not empty).
    pub iommu: bool,
    /// Whether vfio-pci is loaded, built in, or can be loaded.
    pub vfio_pci: bool,
    /// Whether `/dev/vfio/vfio` (type1 containers) can be had.
    pub type1: bool,
    /// Whether `/dev/iommu` and per-device nodes can be had.
    pub iommufd: bool,
    /// Whether noiommu mode is switched on: it gives no isolation at all, and is always refused.
    pub unsafe_noiommu: bool,
}

impl Function {
    /// What the function does.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.class.kind()
    }

    /// Whether it is bound to a vfio driver (vfio-pci or a variant of it).
    #[must_use]
    pub fn on_vfio(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| is_vfio(driver, &self.vfio_driver))
    }

    /// A name for a person: the names of `pci.ids`, or the hex ids where it has none.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.vendor_name, &self.device_name) {
            (Some(vendor), Some(device)) => format!("{vendor} {device}"),
            (Some(vendor), None) => format!("{vendor} {}", self.device),
            _ => format!("{}:{}", self.vendor, self.device),
        }
    }
}

/// Whether `driver` is a vfio driver: vfio-pci itself, the best variant for a function, or one named like a variant
/// (`mlx5_vfio_pci`, `nvgrace_gpu_vfio_pci`; sysfs shows them with `-` or `_`).
#[must_use]
pub fn is_vfio(driver: &str, best: &str) -> bool {
    driver == "vfio-pci"
        || driver == best
        || driver.ends_with("vfio-pci")
        || driver.ends_with("vfio_pci")
}

impl Inventory {
    /// The function at an address.
    #[must_use]
    pub fn function(&self, address: Address) -> Option<&Function> {
        self.functions.get(&address)
    }

    /// The other functions of the same slot.
    pub fn slot_siblings(&self, address: Address) -> impl Iterator<Item = &Function> {
        self.functions
            .values()
            .filter(move |other| other.address != address && other.address.same_slot(address))
    }
}
