//! Partitions of a device that can be handed over separately: virtual functions, mediated devices, and virtual
//! functions that NVIDIA's vendor-specific VFIO makes vGPUs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Address;
use crate::profile_name::own_name;

/// A partition of a device, in a claim. All mechanisms have the same shape; only their creation differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The device: a claim on the partition pins its driver, VF count and reset.
    pub parent: Address,
    /// The mechanism and its values.
    pub how: Mechanism,
}

/// Another tool's (mdevctl's) definition of a mediated device, which may exist or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MdevDefinition {
    /// The parent device.
    pub parent: Address,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its type's id.
    pub type_id: String,
    /// Attributes to write after creation, in order.
    pub attributes: Vec<(String, String)>,
}

impl MdevDefinition {
    /// The definition of a mediated device.
    #[must_use]
    pub fn new(
        parent: Address,
        uuid: Uuid,
        type_id: &str,
        attributes: &[(String, String)],
    ) -> Self {
        Self { parent, uuid, type_id: type_id.to_owned(), attributes: attributes.to_vec() }
    }
}

/// The mechanism of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mechanism", rename_all = "snake_case")]
pub enum Mechanism {
    /// An existing SR-IOV virtual function; the VF count is configuration, not part of a claim.
    Vf {
        /// Its index among the virtual functions of its parent.
        index: u16,
        /// Its settings while it is claimed.
        settings: VfSettings,
    },
    /// A mediated device.
    Mdev {
        /// Its UUID.
        uuid: Uuid,
        /// Its type's id, `nvidia-474`.
        type_id: String,
        /// Its type's name, `NVIDIA A100-4C`, if the parent tells it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        type_name: Option<String>,
        /// Whether it existed before the claim: then it is neither created nor removed.
        existing: bool,
        /// Attributes to write after creation, in order.
        attributes: Vec<(String, String)>,
        /// Whether an mdevctl definition is written when the claim creates it, if there is none.
        #[serde(default)]
        define: bool,
    },
    /// A virtual function that stays on its vendor's driver and becomes a vGPU by `nvidia/current_vgpu_type`.
    Vgpu {
        /// The virtual function.
        function: Address,
        /// The type number to write.
        type_id: u32,
        /// `NVIDIA L40S-1Q`.
        name: String,
        /// Whether it was this vGPU before the claim: then its type is neither set nor cleared.
        #[serde(default)]
        existing: bool,
    },
}

impl Partition {
    /// The partition in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let parent = self.parent;
        match &self.how {
            Mechanism::Vf { index, .. } => format!("virtual function {index} of {parent}"),
            Mechanism::Mdev { uuid, .. } => {
                format!(
                    "mediated device {uuid} ({}) of {parent}",
                    self.profile().unwrap_or_default()
                )
            }
            Mechanism::Vgpu { function, .. } => {
                format!("vGPU {} on {function} of {parent}", self.profile().unwrap_or_default())
            }
        }
    }

    /// Whether it is a mediated device for which an mdevctl definition is written.
    #[must_use]
    pub const fn is_defined(&self) -> bool {
        matches!(self.how, Mechanism::Mdev { define: true, .. })
    }

    /// The profile of the mediated device or vGPU, if it is one, by the name that requests take: `L40S-1Q`.
    #[must_use]
    pub fn profile(&self) -> Option<String> {
        match &self.how {
            Mechanism::Mdev { type_id, type_name, .. } => {
                Some(type_name.as_deref().map_or(type_id.as_str(), own_name).to_owned())
            }
            // One that another tool created has only a number.
            Mechanism::Vgpu { name, .. } if name.starts_with("type ") => Some(name.clone()),
            Mechanism::Vgpu { name, .. } => Some(own_name(name).to_owned()),
            Mechanism::Vf { .. } => None,
        }
    }

    /// The UUID, if it is a mediated device.
    #[must_use]
    pub const fn mdev(&self) -> Option<Uuid> {
        match self.how {
            Mechanism::Mdev { uuid, .. } => Some(uuid),
            Mechanism::Vf { .. } | Mechanism::Vgpu { .. } => None,
        }
    }
}

/// Settings of a virtual function at its physical function, by netlink (`IFLA_VF_*`). `None` leaves a setting
/// unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VfSettings {
    /// The hardware address.
    pub mac: Option<Mac>,
    /// The VLAN tag of its packets; 0 for none.
    pub vlan: Option<u16>,
    /// The priority of that tag.
    pub qos: Option<u8>,
    /// Whether it may change its own address and filters.
    pub trust: Option<bool>,
    /// Whether packets with another sender's address are dropped.
    pub spoof_check: Option<bool>,
    /// The least rate in Mbit/s; 0 for none.
    pub min_rate: Option<u32>,
    /// The highest rate in Mbit/s; 0 for none.
    pub max_rate: Option<u32>,
}

impl VfSettings {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Only the settings that `wanted` sets: what must be restored after `wanted` was written.
    #[must_use]
    pub fn only(&self, wanted: &Self) -> Self {
        Self {
            mac: self.mac.filter(|_| wanted.mac.is_some()),
            vlan: self.vlan.filter(|_| wanted.vlan.is_some() || wanted.qos.is_some()),
            qos: self.qos.filter(|_| wanted.vlan.is_some() || wanted.qos.is_some()),
            trust: self.trust.filter(|_| wanted.trust.is_some()),
            spoof_check: self.spoof_check.filter(|_| wanted.spoof_check.is_some()),
            min_rate: self.min_rate.filter(|_| wanted.min_rate.is_some()),
            max_rate: self.max_rate.filter(|_| wanted.max_rate.is_some()),
        }
    }

    /// Whether `there` has all settings of `self`.
    #[must_use]
    pub fn holds_in(&self, there: &Self) -> bool {
        fn holds<T: PartialEq>(wanted: Option<&T>, there: Option<&T>) -> bool {
            wanted.is_none() || wanted == there
        }
        holds(self.mac.as_ref(), there.mac.as_ref())
            && holds(self.vlan.as_ref(), there.vlan.as_ref())
            && holds(self.qos.as_ref(), there.qos.as_ref())
            && holds(self.trust.as_ref(), there.trust.as_ref())
            && holds(self.spoof_check.as_ref(), there.spoof_check.as_ref())
            && holds(self.min_rate.as_ref(), there.min_rate.as_ref())
            && holds(self.max_rate.as_ref(), there.max_rate.as_ref())
    }
}

impl fmt::Display for VfSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on: bool| if on { "on" } else { "off" };
        let words = [
            self.mac.map(|mac| format!("mac {mac}")),
            self.vlan.map(|vlan| format!("vlan {vlan}")),
            self.qos.map(|qos| format!("qos {qos}")),
            self.trust.map(|on| format!("trust {}", switch(on))),
            self.spoof_check.map(|on| format!("spoofchk {}", switch(on))),
            self.min_rate.map(|rate| format!("min_tx_rate {rate}")),
            self.max_rate.map(|rate| format!("max_tx_rate {rate}")),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

/// A hardware address of an Ethernet interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// The text is not a hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware address such as 52:54:00:12:34:56")]
pub struct MacError(String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let wrong = || MacError(text.into());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_is_read_as_it_is_written() {
        let mac: Mac = "52:54:00:aB:cd:0f".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:0f");
        for wrong in
            ["", "52:54:00:ab:cd", "52:54:00:ab:cd:0f:11", "5:54:00:ab:cd:0ff", "+1:54:00:ab:cd:0f"]
        {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_wanted_is_put_back() {
        let found = VfSettings {
            vlan: Some(0),
            qos: Some(0),
            trust: Some(false),
            max_rate: Some(0),
            ..VfSettings::default()
        };
        let wanted = VfSettings { vlan: Some(100), trust: Some(true), ..VfSettings::default() };
        let back = found.only(&wanted);
        assert_eq!(back.to_string(), "vlan 0 qos 0 trust off");
        assert!(!wanted.holds_in(&found) && back.holds_in(&found));
    }
}
