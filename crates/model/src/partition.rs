//! Parts of a device that can be handed over by themselves: virtual functions, mediated devices, and virtual functions
//! that NVIDIA's vendor-specific VFIO makes into vGPUs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Address;

/// A part of a device, as a claim has it. One shape for all mechanisms: what differs is how it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The device that it is a part of: a claim on the part pins this one's driver, VF count and reset.
    pub parent: Address,
    /// How it is made and what it is.
    pub how: Mechanism,
}

/// A mediated device that is written down for another tool (mdevctl), and that is there or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MdevDefinition {
    /// The device that it is a part of.
    pub parent: Address,
    /// Its name.
    pub uuid: Uuid,
    /// Its type's id.
    pub type_id: String,
    /// Attributes to write after it is made, in order.
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

/// How a part of a device is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mechanism", rename_all = "snake_case")]
pub enum Mechanism {
    /// An SR-IOV virtual function that is there; the VF count is configuration and not the claim's.
    Vf {
        /// Its number among the virtual functions of its parent.
        index: u16,
        /// What its parent is told of it while it is claimed.
        settings: VfSettings,
    },
    /// A mediated device.
    Mdev {
        /// Its name.
        uuid: Uuid,
        /// Its type's id, `nvidia-474`.
        type_id: String,
        /// Whether it was there before the claim: then it is not made and not removed.
        existing: bool,
        /// Attributes to write after it is made, in order.
        attributes: Vec<(String, String)>,
        /// Whether mdevctl's definition of it is written where the claim makes it and there is none.
        #[serde(default)]
        define: bool,
    },
    /// A virtual function that stays on its vendor's driver and is made a vGPU by `nvidia/current_vgpu_type`.
    Vgpu {
        /// The virtual function.
        function: Address,
        /// The number that is written.
        type_id: u32,
        /// `NVIDIA L40S-1Q`.
        name: String,
    },
}

impl Partition {
    /// The part in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let parent = self.parent;
        match &self.how {
            Mechanism::Vf { index, .. } => format!("virtual function {index} of {parent}"),
            Mechanism::Mdev { uuid, type_id, .. } => {
                format!("mediated device {uuid} ({type_id}) of {parent}")
            }
            Mechanism::Vgpu { function, name, .. } => {
                format!("vGPU {name} on {function} of {parent}")
            }
        }
    }

    /// Whether it is a mediated device that is to be written down for mdevctl.
    #[must_use]
    pub const fn is_defined(&self) -> bool {
        matches!(self.how, Mechanism::Mdev { define: true, .. })
    }

    /// The mediated device that it is, if it is one.
    #[must_use]
    pub const fn mdev(&self) -> Option<Uuid> {
        match self.how {
            Mechanism::Mdev { uuid, .. } => Some(uuid),
            Mechanism::Vf { .. } | Mechanism::Vgpu { .. } => None,
        }
    }
}

/// What a physical function is told of a virtual one, by netlink (`IFLA_VF_*`). What is `None` is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VfSettings {
    /// The hardware address.
    pub mac: Option<Mac>,
    /// The VLAN that its packets are tagged with; 0 for none.
    pub vlan: Option<u16>,
    /// The priority of that tag.
    pub qos: Option<u8>,
    /// Whether it may change its address and filters by itself.
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

    /// Of these, only what `wanted` sets: what must be put back after `wanted` was written over them.
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

    /// Whether all that is set here is so there.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is no hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hardware address such as 52:54:00:12:34:56")]
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
