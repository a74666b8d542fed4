//! Detail of a function: read from configuration space and from attributes that may block on the device's lock or its
//! driver.

use serde::{Deserialize, Serialize};

use super::{GpuModes, MdevType, MigInstance, VgpuTypes};

/// Further facts about a function. A value that could not be read is `None`, with a note in the function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Detail {
    /// The PCIe device serial number, `00-11-22-ff-fe-33-44-55` (PCI Express Base Specification, 7.9.3).
    pub serial: Option<String>,
    /// Its `driver_override`.
    pub driver_override: Option<String>,
    /// Modules that have a driver for it, by its modalias; vfio drivers are not among them.
    pub candidate_drivers: Vec<String>,
    /// Its link, if it is a PCI Express function with a link.
    pub link: Option<Link>,
    /// Its role in the PCI Express tree.
    pub port_type: Option<PortType>,
    /// Access Control Services of a bridge or of a multi-function device; `None` without this capability.
    pub acs: Option<Acs>,
    /// Whether it supports Function Level Reset (PCIe or Advanced Features).
    pub flr: Option<bool>,
    /// Whether a return from D3hot resets it (`NO_SOFT_RESET` is clear).
    pub pm_reset: Option<bool>,
    /// BARs that can be resized.
    pub resizable_bars: Vec<ResizableBar>,
    /// The value of `sriov_numvfs`, if it could be read in time.
    #[serde(rename = "enabled_vfs")]
    pub vf_count: Option<u16>,
    /// The types of mediated devices that it offers.
    pub mdev_types: Vec<MdevType>,
    /// NVIDIA's vendor-specific VFIO of a virtual function, detected by its attributes.
    pub vgpu: Option<VgpuTypes>,
    /// The instances of an NVIDIA GPU in MIG mode (`/proc/driver/nvidia/capabilities`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig: Vec<MigInstance>,
    /// Modes of an NVIDIA GPU, as far as its driver tells them.
    #[serde(default, skip_serializing_if = "GpuModes::is_nothing")]
    pub modes: GpuModes,
    /// Whether its configuration space reads as all ones: it does not respond.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// Its capabilities in configuration space, by the specification's short names: `MSI-X`, `AER`, `SR-IOV`, ...
    pub capabilities: Vec<String>,
}

/// A PCI Express link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Link {
    /// Current speed in tenths of GT/s (25, 50, 80, 160, 320, 640); 0 if there is no link.
    pub speed: u16,
    /// Current number of lanes.
    pub width: u8,
    /// The highest speed that the function supports, in tenths of GT/s.
    pub max_speed: u16,
    /// The highest number of lanes that the function supports.
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
    /// Supported features.
    pub supported: u16,
    /// Enabled features.
    pub enabled: u16,
}

impl Acs {
    /// What the kernel requires of a port to treat the devices behind it as isolated: source validation, request and
    /// completion redirect, upstream forwarding (`REQ_ACS_FLAGS` in drivers/iommu/iommu.c).
    pub const NEEDED: u16 = 0x1d;

    /// Whether the devices behind it are isolated.
    #[must_use]
    pub const fn isolates(self) -> bool {
        self.enabled & Self::NEEDED == Self::NEEDED
    }
}

/// A resizable BAR (PCI Express Base Specification, 7.8.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResizableBar {
    /// The BAR's index.
    pub index: u8,
    /// Its current size in bytes.
    pub size: u64,
    /// The largest size in bytes.
    pub largest: u64,
}
