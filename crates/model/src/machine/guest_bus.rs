//! Addresses of devices in a guest that a person chooses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The bus on which a guest sees a device, behind a port of its own: `06:00`. The slot is always 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestBus(u8);

/// Why a text is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address that a device can have in the guest: expected a bus from 01 to 3f and the slot 00, such as 06:00"
)]
pub struct GuestBusError(String);

impl GuestBus {
    /// The last one. Those behind it are for devices of other NUMA nodes.
    pub const LAST: u8 = 0x3f;

    /// The number of the bus.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for GuestBus {
    type Err = GuestBusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || GuestBusError(text.into());
        let rest = text.strip_prefix("0000:").unwrap_or(text);
        let rest = rest.strip_suffix(".0").unwrap_or(rest);
        let (bus, slot) = rest.split_once(':').ok_or_else(wrong)?;
        let is_hex = bus.len() == 2 && bus.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u8::from_str_radix(bus, 16).ok().filter(|_| is_hex && slot == "00");
        number.filter(|number| (1..=Self::LAST).contains(number)).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<String> for GuestBus {
    type Error = GuestBusError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GuestBus> for String {
    fn from(bus: GuestBus) -> Self {
        bus.to_string()
    }
}

impl fmt::Display for GuestBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:00", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slot_behind_a_port_can_be_chosen() {
        for (text, number) in [("06:00", 6), ("3F:00", 0x3f), ("0000:0a:00.0", 10), ("01:00.0", 1)]
        {
            let bus: GuestBus = text.parse().unwrap();
            assert_eq!(bus.number(), number, "{text}");
            assert_eq!(serde_json::from_value::<GuestBus>(serde_json::json!(bus)).unwrap(), bus);
        }
        for text in ["", "06", "00:00", "40:00", "06:01", "6:00", "06:00.1", "+6:00", "0001:06:00"]
        {
            assert!(text.parse::<GuestBus>().is_err(), "{text}");
        }
    }
}
