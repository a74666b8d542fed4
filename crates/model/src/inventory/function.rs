//! One PCI function.

use serde::{Deserialize, Serialize};

use super::{Detail, Mdev, VgpuTypes};
use crate::{Address, Class, Id, Kind};

// Vendors of displays of management controllers.
const ASPEED: u16 = 0x1a03;
const MATROX: u16 = 0x102b;
const SILICON_MOTION: u16 = 0x126f;
const XGI: u16 = 0x18ca;
const HUAWEI: u16 = 0x19e5;
/// Huawei's iBMC.
const HIBMC: [u16; 1] = [0x1711];
/// ATI's Rage XL and ES1000, on server boards.
const SERVER_RAGE: [u16; 4] = [0x4752, 0x474d, 0x515e, 0x5969];

/// One PCI function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Function {
    /// Its current address. Addresses can change between boots.
    pub address: Address,
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// Subsystem vendor id, if any.
    pub subsystem_vendor: Option<Id>,
    /// Subsystem id, if any.
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
    /// The NUMA node, if the firmware reports it.
    pub numa_node: Option<u32>,
    /// The bridges above it, from the root bus down; empty on a root bus.
    pub path: Vec<Address>,
    /// The function whose driver created its bus, and removes it when it is unbound: Intel's Volume Management Device (VMD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Address>,
    /// Whether the firmware used it for its console (`boot_vga`).
    pub boot_vga: bool,
    /// Single Root I/O Virtualization, if it is a physical function.
    pub sriov: Option<VirtualFunctions>,
    /// For a virtual function: its physical function.
    pub physical_function: Option<Address>,
    /// Base address registers that have a size.
    pub bars: Vec<Bar>,
    /// The kernel's reset methods for it, in order (`reset_method`, Linux 5.15).
    pub reset_methods: Vec<String>,
    /// Whether the kernel can reset it (it has a `reset` attribute).
    pub resettable: bool,
    /// Whether its resets are switched off: `reset_method` exists, and is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resets_off: bool,
    /// Whether it can be unplugged (`removable`, Linux 5.14).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removable: bool,
    /// Whether its parity errors are ignored (`broken_parity_status`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broken_parity: bool,
    /// Its power state, as far as the kernel knows it without waking it.
    pub power: Power,
    /// Nodes and interfaces that its driver created.
    pub nodes: Nodes,
    /// Its mediated devices.
    pub mdevs: Vec<Mdev>,
    /// Detail; `None` in a listing.
    pub detail: Option<Box<Detail>>,
    /// What could not be read, in words.
    pub notes: Vec<String>,
}

/// The virtual functions of a physical function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VirtualFunctions {
    /// The maximum number (`sriov_totalvfs`).
    pub total: u16,
    /// The existing ones (`virtfnN`), in order.
    pub present: Vec<Address>,
    /// Whether the kernel binds drivers to new ones (`sriov_drivers_autoprobe`).
    pub autoprobe: Option<bool>,
}

/// One base address register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Bar {
    /// 0 to 5; 6 is the expansion ROM.
    pub index: u8,
    /// Its start in the host's address space; 0 if not readable (not root) or unassigned.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
    /// Whether it decodes I/O ports instead of memory.
    pub io: bool,
    /// Whether it is a 64-bit memory BAR.
    pub is_64bit: bool,
    /// Whether it is prefetchable.
    pub prefetchable: bool,
    /// Whether the kernel could give it no address (`IORESOURCE_UNSET`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unassigned: bool,
}

/// A function's power state, as the kernel has recorded it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Power {
    /// The PCI power state: `D0`, `D3hot`, `D3cold`, `unknown` (`power_state`, Linux 5.11).
    pub state: Option<String>,
    /// Runtime power management: `active`, `suspended`, ... (`power/runtime_status`).
    pub runtime_status: Option<String>,
    /// `on` keeps it awake, `auto` lets it be suspended (`power/control`).
    pub control: Option<String>,
    /// Whether it may be powered off (`d3cold_allowed`).
    pub d3cold_allowed: Option<bool>,
}

/// Device nodes and interfaces that a function's driver created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Nodes {
    /// Direct Rendering Manager nodes: `card0`, `renderD128`, below `/dev/dri`.
    pub drm: Vec<String>,
    /// The number N of `/dev/nvidiaN` (`/proc/driver/nvidia/gpus/*/information`).
    pub nvidia_minor: Option<u32>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// Block devices: whole disks and namespaces.
    pub block_devices: Vec<String>,
    /// The VFIO group's node, `/dev/vfio/12`, if it exists.
    pub vfio_group: Option<String>,
    /// The VFIO device's node, `/dev/vfio/devices/vfio3`, if it exists.
    pub vfio_device: Option<String>,
}

impl Function {
    /// A function of which only the address is known.
    #[must_use]
    pub fn unknown(address: Address) -> Self {
        Self {
            address,
            vendor: Id::NONE,
            device: Id::NONE,
            subsystem_vendor: None,
            subsystem_device: None,
            class: Class::NONE,
            revision: 0,
            vendor_name: None,
            device_name: None,
            driver: None,
            vfio_driver: "vfio-pci".into(),
            iommu_group: None,
            numa_node: None,
            path: Vec::new(),
            behind: None,
            boot_vga: false,
            sriov: None,
            physical_function: None,
            bars: Vec::new(),
            reset_methods: Vec::new(),
            resettable: false,
            resets_off: false,
            removable: false,
            broken_parity: false,
            power: Power::default(),
            nodes: Nodes::default(),
            mdevs: Vec::new(),
            detail: None,
            notes: Vec::new(),
        }
    }

    /// Whether its vendor, its device id or its class could not be read; the notes say why.
    #[must_use]
    pub fn is_unidentified(&self) -> bool {
        !self.notes.is_empty()
            && (self.vendor == Id::NONE || self.device == Id::NONE || self.class == Class::NONE)
    }

    /// The kind of the function. The class 0c80 (other serial bus) is USB-C only on a card of a GPU's vendor.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match (self.class.prefix(), self.vendor) {
            (0x0c80, Id::NVIDIA | Id::AMD_GPU) => Kind::Usb,
            _ => self.class.kind(),
        }
    }

    /// The function whose driver makes this one exist: the physical function of a VF, or a VMD controller.
    #[must_use]
    pub fn exists_by(&self) -> Option<Address> {
        self.physical_function.or(self.behind)
    }

    /// The bridge just above it; `None` on a root bus.
    #[must_use]
    pub fn bridge(&self) -> Option<Address> {
        self.path.last().copied()
    }

    /// Its existing virtual functions.
    #[must_use]
    pub fn virtual_functions(&self) -> &[Address] {
        self.sriov.as_ref().map_or(&[], |sriov| &sriov.present)
    }

    /// Whether it is bound to a vfio driver (vfio-pci or a variant of it).
    #[must_use]
    pub fn on_vfio(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| is_vfio(driver, &self.vfio_driver))
    }

    /// Whether it is the display of the board's management controller (BMC), or an old server display that has the same
    /// purpose: no GPU that a machine would want.
    #[must_use]
    pub fn is_management_display(&self) -> bool {
        let only =
            |vendor, devices: &[u16]| self.vendor.0 == vendor && devices.contains(&self.device.0);
        self.kind() == Kind::Gpu
            && (matches!(self.vendor.0, ASPEED | MATROX | SILICON_MOTION | XGI)
                || only(HUAWEI, &HIBMC)
                || only(Id::AMD_GPU.0, &SERVER_RAGE))
    }

    /// Whether the host itself shows something on it: the firmware's console, or its management controller. On a vfio driver
    /// it has given that up.
    #[must_use]
    pub fn is_hosts_display(&self) -> bool {
        let console = self.kind() == Kind::Gpu && self.boot_vga && !self.on_vfio();
        self.physical_function.is_none() && (console || self.is_management_display())
    }

    /// What the host itself shows on it, in words: then a kind of device does not mean it, only its address.
    #[must_use]
    pub fn hosts_display(&self) -> Option<&'static str> {
        match (self.is_hosts_display(), self.is_management_display()) {
            (false, _) => None,
            (true, true) => Some("management display"),
            (true, false) => Some("host console"),
        }
    }

    /// The vGPU types of a virtual function with NVIDIA's vendor-specific VFIO; only with detail.
    #[must_use]
    pub fn vgpu(&self) -> Option<&VgpuTypes> {
        self.physical_function?;
        self.detail.as_ref()?.vgpu.as_ref()
    }

    /// The driver that it is on while it is handed over: a vGPU stays on its vendor's driver, which has VFIO of its own.
    #[must_use]
    pub fn hand_over_driver(&self) -> &str {
        match (&self.driver, self.vgpu()) {
            (Some(driver), Some(_)) => driver,
            _ => &self.vfio_driver,
        }
    }

    /// A display name: the names in `pci.ids`, or the hex ids if it has none.
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
