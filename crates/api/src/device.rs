//! Devices.

use serde::{Deserialize, Serialize};

use crate::{Tags, Wish};

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

/// A function that can be handed over and is not claimed. It may be registered already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AvailableDevice {
    /// Its address, such as `0000:a2:00.0`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub pci_address: String,
    /// Vendor id, four hex digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciId))]
    pub vendor_id: String,
    /// Device id, four hex digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciId))]
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
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Kind))]
    pub kind: String,
}

/// A request to register a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateDevice {
    /// The address of the function.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub pci_address: String,
    /// Name; derived from the address by default, such as `pci-0000-a2-00-0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::NewDeviceName>))]
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
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Uuid))]
    pub id: String,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::DeviceName))]
    pub name: String,
    /// `gpu` or `pci`.
    #[serde(rename = "type")]
    pub device_type: DeviceType,
    /// Its address.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub pci_address: String,
    /// Vendor id, four hex digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciId))]
    pub vendor_id: String,
    /// Device id, four hex digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciId))]
    pub device_id: String,
    /// Its IOMMU group; `null` while the function is gone.
    pub iommu_group: Option<u32>,
    /// Whether it is bound to a vfio driver.
    pub bound_to_vfio: bool,
    /// The vendor's and the device's name; their ids if they have none. Absent while the function is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub title: Option<String>,
    /// The id of the instance that uses it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Uuid>))]
    pub attached_to: Option<String>,
    /// `free`, `claimed`, `foreign`, `wedged`, `quarantined` or `absent`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::DeviceState))]
    pub state: String,
    /// Why it is not free.
    #[serde(default)]
    pub state_reason: Option<String>,
    /// When it was registered (RFC 3339).
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    pub created_at: String,
    /// Tags.
    pub tags: Tags,
    /// Its kind: `gpu`, `nic`, `nvme`, ...
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Kind))]
    pub kind: String,
    /// Fields of the request that were ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Options of binding a device by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BindDevice {
    /// Owner of the claim, `KIND/ID`; `device/NAME` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Owner>))]
    pub owner: Option<String>,
    /// User id that may open the device; root by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 4_294_967_294u32))]
    pub uid: Option<u32>,
    /// Whether to ask processes that use the device to terminate. None is killed.
    pub evict: bool,
}

/// Options of unbinding a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct UnbindDevice {
    /// Owner of the claim that bound it, `KIND/ID`; `device/NAME` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Owner>))]
    pub owner: Option<String>,
}

/// Options of resetting a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ResetDevice {
    /// Owner of the claim, `KIND/ID`; `device/NAME` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Owner>))]
    pub owner: Option<String>,
    /// Whether to ask processes that use the device to terminate. None is killed.
    pub evict: bool,
}

/// A device for an instance that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AttachDevice {
    /// A registered device by id or name, or whatever a claim takes (`wants`), for one device: an address, `gpu`,
    /// `vf@nic0,vlan=100`, `profile=L40S-1Q`, ...
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PlacedWish))]
    pub device: Wish,
}

/// A device or vGPU of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttachedDevice {
    /// The address of its function; of the GPU for a mediated device.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub pci_address: String,
    /// The vendor's and the device's name; their ids if they have none.
    pub title: String,
    /// The name of its registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub name: Option<String>,
    /// The profile, if it is a vGPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub profile: Option<String>,
    /// The mediated device, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::Uuid>))]
    pub mdev_uuid: Option<String>,
    /// What part of the device it is, in words, if it is not the whole device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub partition: Option<String>,
    /// Its address in the guest, while that runs. Answers about several instances do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::PciAddress>))]
    pub guest_address: Option<String>,
}
