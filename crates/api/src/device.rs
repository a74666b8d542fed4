//! Devices.

use serde::{Deserialize, Serialize};

use crate::Tags;

/// The two kinds of device that hypeman's API knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeviceType {
    /// A display function.
    Gpu,
    /// Any other.
    Pci,
}

/// A function that can be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AvailableDevice {
    /// Its address, such as `0000:a2:00.0`.
    pub pci_address: String,
    /// Vendor id, four hex digits.
    pub vendor_id: String,
    /// Device id, four hex digits.
    pub device_id: String,
    /// The vendor's name.
    pub vendor_name: String,
    /// The device's name.
    pub device_name: String,
    /// Its IOMMU group.
    pub iommu_group: u32,
    /// The driver bound to it; `null` if none.
    pub current_driver: Option<String>,
    /// Its kind: `gpu`, `nic`, `nvme`, ...
    pub kind: String,
}

/// A request to register a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateDevice {
    /// The address of the function.
    pub pci_address: String,
    /// Name; derived from the address by default, such as `pci-0000-a2-00-0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
}

/// A registered device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `gpu` or `pci`.
    #[serde(rename = "type")]
    pub device_type: DeviceType,
    /// Its address.
    pub pci_address: String,
    /// Vendor id, four hex digits.
    pub vendor_id: String,
    /// Device id, four hex digits.
    pub device_id: String,
    /// Its IOMMU group; `null` while the function is gone.
    pub iommu_group: Option<u32>,
    /// Whether it is bound to a vfio driver.
    pub bound_to_vfio: bool,
    /// The id of the instance that uses it.
    pub attached_to: Option<String>,
    /// `free`, `claimed`, `foreign`, `wedged`, `quarantined` or `absent`.
    #[serde(default)]
    pub state: String,
    /// Why it is not free.
    #[serde(default)]
    pub state_reason: Option<String>,
    /// When it was registered (RFC 3339).
    pub created_at: String,
    /// Tags.
    pub tags: Tags,
    /// Its kind: `gpu`, `nic`, `nvme`, ...
    pub kind: String,
}
