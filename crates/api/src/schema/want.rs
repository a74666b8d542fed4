//! The schema of a requested item. `model::choose::Want` reads it; these types only describe it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{HardwareAddress, Kind, PciId, PlacedWantText, Uuid, WantText};

/// One requested item: as a string or as an object with one of `device`, `any`, `vf`, `profile`, `mdev`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Wish {
    /// As a string.
    #[schema(value_type = WantText)]
    Words(String),
    /// One device.
    Device(DeviceWant),
    /// Any devices that fit.
    Any(AnyWant),
    /// Virtual functions.
    Vf(VfWant),
    /// One virtual function with a hardware address.
    VfWithAddress(VfWithAddressWant),
    /// vGPUs of a profile.
    Profile(ProfileWant),
    /// An existing mediated device.
    Mdev(MdevWant),
}

/// One device of an instance: as a string or as an object with one of `device`, `any`, `vf`, `profile`, `mdev`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PlacedWish {
    /// As a string.
    #[schema(value_type = PlacedWantText)]
    Words(String),
    /// One device.
    Device(DeviceWant),
    /// Any devices that fit.
    Any(AnyWant),
    /// Virtual functions.
    Vf(VfWant),
    /// One virtual function with a hardware address.
    VfWithAddress(VfWithAddressWant),
    /// vGPUs of a profile.
    Profile(ProfileWant),
    /// An existing mediated device.
    Mdev(MdevWant),
}

/// One device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceWant {
    /// Always 1.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1)]
    pub count: u32,
    /// Address or registered name.
    #[schema(min_length = 1)]
    pub device: String,
}

/// Any devices that fit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnyWant {
    /// How many; 1 by default.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub count: u32,
    /// Properties of the devices.
    pub any: Filter,
}

/// Properties of devices; all that are given must match.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Kind.
    #[schema(value_type = Option<Kind>)]
    pub kind: Option<String>,
    /// Vendor id.
    #[schema(value_type = Option<PciId>)]
    pub vendor: Option<String>,
    /// Device id.
    #[schema(value_type = Option<PciId>)]
    pub device: Option<String>,
    /// Alternative device ids.
    #[serde(default)]
    #[schema(value_type = Vec<PciId>)]
    pub or_devices: Vec<String>,
    /// NUMA node.
    pub node: Option<u32>,
    /// A resource of the devices file, or `nvidia.com/gpu`.
    #[schema(min_length = 1)]
    pub resource: Option<String>,
}

/// Existing virtual functions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VfWant {
    /// How many; 1 by default.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub count: u32,
    /// Which ones.
    pub vf: Vfs,
}

/// Virtual functions and their settings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Vfs {
    /// Their physical function, by address or name; any by default.
    pub of: Option<String>,
    /// Settings.
    #[serde(default)]
    #[schema(inline)]
    pub settings: VfSettings,
}

/// Settings of virtual functions.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VfSettings {
    /// VLAN tag; 0 for none.
    #[schema(maximum = 4094)]
    pub vlan: Option<u16>,
    /// Priority of the tag.
    #[schema(maximum = 7)]
    pub qos: Option<u8>,
    /// Whether it may change its own address and filters.
    pub trust: Option<bool>,
    /// Whether packets with another sender's address are dropped.
    pub spoof_check: Option<bool>,
    /// Least rate in Mbit/s; 0 for none.
    pub min_rate: Option<u32>,
    /// Highest rate in Mbit/s; 0 for none.
    pub max_rate: Option<u32>,
}

/// One virtual function with a hardware address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VfWithAddressWant {
    /// Always 1.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1)]
    pub count: u32,
    /// Which one.
    pub vf: VfWithAddress,
}

/// A virtual function and its settings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VfWithAddress {
    /// Its physical function, by address or name; any by default.
    pub of: Option<String>,
    /// Settings.
    pub settings: VfAddressSettings,
}

/// Settings of a virtual function with a hardware address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VfAddressSettings {
    /// Hardware address.
    #[schema(value_type = HardwareAddress)]
    pub mac: String,
    /// VLAN tag; 0 for none.
    #[schema(maximum = 4094)]
    pub vlan: Option<u16>,
    /// Priority of the tag.
    #[schema(maximum = 7)]
    pub qos: Option<u8>,
    /// Whether it may change its own address and filters.
    pub trust: Option<bool>,
    /// Whether packets with another sender's address are dropped.
    pub spoof_check: Option<bool>,
    /// Least rate in Mbit/s; 0 for none.
    pub min_rate: Option<u32>,
    /// Highest rate in Mbit/s; 0 for none.
    pub max_rate: Option<u32>,
}

/// vGPUs of a profile.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileWant {
    /// How many; 1 by default.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub count: u32,
    /// The profile.
    pub profile: Profile,
}

/// A vGPU profile.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name or id.
    pub profile: String,
    /// The GPU, by address or name; any by default.
    pub of: Option<String>,
    /// Attributes to write to a mediated device after creation, in order: pairs of name and value.
    #[serde(default)]
    #[schema(value_type = Vec<Pair>)]
    pub attributes: Vec<(String, String)>,
}

/// Name and value.
#[derive(Debug)]
pub enum Pair {}

impl utoipa::PartialSchema for Pair {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::schema::ArrayBuilder::new()
            .items(utoipa::openapi::schema::Object::with_type(
                utoipa::openapi::schema::Type::String,
            ))
            .min_items(Some(2))
            .max_items(Some(2))
            .into()
    }
}

impl ToSchema for Pair {}

/// An existing mediated device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MdevWant {
    /// Always 1.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1)]
    pub count: u32,
    /// Its UUID.
    #[schema(value_type = Uuid)]
    pub mdev: String,
}
