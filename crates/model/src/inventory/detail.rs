//! What only detail tells of a function: read from configuration space and from attributes that may wait for the
//! device's lock or for its driver.

use serde::{Deserialize, Serialize};

use super::{MdevType, MigInstance, VgpuTypes};

/// The rest of what can be known of a function. What could not be read is `None`, with a note in its function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Detail {
    /// The PCIe device serial number, `00-11-22-ff-fe-33-44-55` (PCI Express Base Specification, 7.9.3).
    pub serial: Option<String>,
    /// The `driver_override` that is set.
    pub driver_override: Option<String>,
    /// Modules that have a driver for it, by its modalias; vfio drivers are not among them.
    pub candidate_drivers: Vec<String>,
    /// How it is connected, where it is a PCI Express function with a link.
    pub link: Option<Link>,
    /// What it is in the PCI Express tree.
    pub port_type: Option<PortType>,
    /// Access Control Services of a bridge or of a multi-function device; `None` where it has no such capability.
    pub acs: Option<Acs>,
    /// Whether it can reset itself alone (Function Level Reset, PCIe or Advanced Features).
    pub flr: Option<bool>,
    /// Whether a return from D3hot resets it (`NO_SOFT_RESET` is clear).
    pub pm_reset: Option<bool>,
    /// BARs whose size can be chosen.
    pub resizable_bars: Vec<ResizableBar>,
    /// What `sriov_numvfs` says, where it could be read in time.
    #[serde(rename = "enabled_vfs")]
    pub vf_count: Option<u16>,
    /// The types of mediated devices that it offers.
    pub mdev_types: Vec<MdevType>,
    /// NVIDIA's vendor-specific VFIO of a virtual function, told by its attributes.
    pub vgpu: Option<VgpuTypes>,
    /// The instances of an NVIDIA GPU in MIG mode (`/proc/driver/nvidia/capabilities`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig: Vec<MigInstance>,
    /// What configuration space says that is there: `MSI-X`, `AER`, `SR-IOV`, ... in the specification's short names.
    pub capabilities: Vec<String>,
}

/// A PCI Express link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Link {
    /// Present speed in tenths of GT/s (25, 50, 80, 160, 320, 640); 0 where there is no link.
    pub speed: u16,
    /// Present number of lanes.
    pub width: u8,
    /// The highest speed that the function can do, in tenths of GT/s.
    pub max_speed: u16,
    /// The most lanes that the function has.
    pub max_width: u8,
}

/// The kind of a PCI Express function (PCI Express Capabilities register, device/port type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PortType {
    /// An endpoint.
    Endpoint,
    /// A legacy endpoint.
    LegacyEndpoint,
    /// A root port.
    RootPort,
    /// The upstream port of a switch.
    SwitchUpstream,
    /// A downstream port of a switch.
    SwitchDownstream,
    /// A bridge from PCI Express to PCI.
    PcieToPci,
    /// A bridge from PCI to PCI Express.
    PciToPcie,
    /// An endpoint in the root complex.
    RootComplexEndpoint,
    /// The root complex's event collector.
    EventCollector,
}

/// Access Control Services (PCI Express Base Specification, 7.7.8), as bits of the ACS capability and control registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Acs {
    /// What it can do.
    pub supported: u16,
    /// What is switched on.
    pub enabled: u16,
}

impl Acs {
    /// What the kernel asks of a port before it takes what is behind it for isolated: source validation, request and
    /// completion redirect, upstream forwarding (`REQ_ACS_FLAGS` in drivers/iommu/iommu.c).
    pub const NEEDED: u16 = 0x1d;

    /// Whether what is behind it is kept apart.
    #[must_use]
    pub const fn isolates(self) -> bool {
        self.enabled & Self::NEEDED == Self::NEEDED
    }
}

/// A BAR whose size can be chosen (PCI Express Base Specification, 7.8.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResizableBar {
    /// Which BAR.
    pub index: u8,
    /// Its present size in bytes.
    pub size: u64,
    /// The largest size in bytes.
    pub largest: u64,
}
