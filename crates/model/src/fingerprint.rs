//! The original state of a function, and the fingerprint that identifies it.

use serde::{Deserialize, Serialize};

use crate::{Address, Id};

/// What identifies a device across resets and reboots. Addresses and group numbers can change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// Subsystem vendor id.
    pub subsystem_vendor: Option<Id>,
    /// Subsystem id.
    pub subsystem_device: Option<Id>,
    /// The PCIe device serial number, `00-11-22-ff-fe-33-44-55`, if the device has one and it could be read.
    pub serial: Option<String>,
    /// The bridges from the root to the function as `device.function` numbers, which survive bus renumbering.
    pub slot_path: String,
}

impl Fingerprint {
    /// The fingerprint of an unknown device.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            vendor: Id::NONE,
            device: Id::NONE,
            subsystem_vendor: None,
            subsystem_device: None,
            serial: None,
            slot_path: String::new(),
        }
    }

    /// Whether `now` can be the same device: all fields are equal; serial numbers are compared only if both are known.
    #[must_use]
    pub fn matches(&self, now: &Self) -> bool {
        let serial = match (&self.serial, &now.serial) {
            (Some(then), Some(now)) => then == now,
            _ => true,
        };
        serial
            && self.vendor == now.vendor
            && self.device == now.device
            && self.subsystem_vendor == now.subsystem_vendor
            && self.subsystem_device == now.subsystem_device
            && self.slot_path == now.slot_path
    }
}

/// `power/control` of a device (Documentation/ABI/testing/sysfs-devices-power).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerControl {
    /// The device may be suspended when idle.
    Auto,
    /// The device stays awake.
    On,
}

impl PowerControl {
    /// The word in sysfs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
        }
    }
}

/// The link of a healthy device: after a reset it must not be slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkBaseline {
    /// Tenths of GT/s.
    pub speed: u16,
    /// Lanes.
    pub width: u8,
}

/// The original state of a function, before the first step of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsFound {
    /// The function.
    pub address: Address,
    /// Its driver, if it had one.
    pub driver: Option<String>,
    /// Its `driver_override`, if one was set.
    pub driver_override: Option<String>,
    /// Its `power/control`, if it could be read.
    pub power: Option<PowerControl>,
    /// Its link while healthy, for comparison after a reset.
    #[serde(default)]
    pub link: Option<LinkBaseline>,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Fingerprint {
        Fingerprint {
            vendor: Id(0x10de),
            device: Id(0x20b0),
            subsystem_vendor: None,
            subsystem_device: None,
            serial: Some("00-00-00-ff-fe-00-00-01".into()),
            slot_path: "02.0/00.0".into(),
        }
    }

    #[test]
    fn another_serial_is_another_device_but_an_unread_one_is_not() {
        let other = Fingerprint { serial: Some("00-00-00-ff-fe-00-00-02".into()), ..some() };
        let unread = Fingerprint { serial: None, ..some() };
        let moved = Fingerprint { slot_path: "03.0/00.0".into(), ..some() };
        assert!(!some().matches(&other));
        assert!(some().matches(&unread) && unread.matches(&some()));
        assert!(!some().matches(&moved));
    }
}
