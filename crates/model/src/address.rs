//! PCI addresses: domain, bus, device, function.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The address of one PCI function, written `DDDD:BB:SS.F` in hexadecimal.
///
/// The domain has at least four hex digits but can have more: Intel VMD puts drives behind domains such as `10000`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Why a text is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", self.reason(), self.way_out())]
pub struct AddressError {
    text: String,
    problem: &'static str,
}

impl AddressError {
    /// What is wrong, without what to do.
    #[must_use]
    pub fn reason(&self) -> String {
        format!("{:?} is not a PCI address: {}", self.text, self.problem)
    }

    /// The address that was probably meant, or the form of one.
    #[must_use]
    pub fn way_out(&self) -> String {
        match Address::meant(&self.text) {
            Some(address) => format!("did you mean `{address}`?"),
            None => "use the form 0000:a2:00.0, as `handover ls` shows it".to_owned(),
        }
    }
}

impl Address {
    /// Creates an address; `None` if `device` is over 31 or `function` over 7.
    #[must_use]
    pub const fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 0x1f || function > 7 {
            return None;
        }
        Some(Self { domain, bus, device, function })
    }

    /// The address that a text abbreviates: with too few digits (`1:0.0`), or without a function (`01:00`, `pci_0000_01_00`).
    #[must_use]
    pub fn meant(text: &str) -> Option<Self> {
        let text = match text.strip_prefix("pci_") {
            Some(rest) => rest.replace('_', ":"),
            None => text.to_owned(),
        };
        let (rest, function) = text.split_once('.').unwrap_or((&text, "0"));
        let hex = |digits: &str, most: usize| {
            let right = (1..=most).contains(&digits.len());
            u32::from_str_radix(digits, 16).ok().filter(|_| right && !digits.starts_with('+'))
        };
        let parts: Vec<&str> = rest.split(':').collect();
        let (domain, bus, device) = match parts[..] {
            [bus, device] => ("0", bus, device),
            [domain, bus, device] => (domain, bus, device),
            _ => return None,
        };
        let narrow = |digits: &str, most| u8::try_from(hex(digits, most)?).ok();
        Self::new(hex(domain, 8)?, narrow(bus, 2)?, narrow(device, 2)?, narrow(function, 1)?)
    }

    /// The PCI domain (segment).
    #[must_use]
    pub const fn domain(self) -> u32 {
        self.domain
    }

    /// The bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// The device (slot) number on the bus, 0 to 31.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.device
    }

    /// The function number, 0 to 7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }

    /// Whether both are functions of the same slot.
    #[must_use]
    pub const fn same_slot(self, other: Self) -> bool {
        self.domain == other.domain && self.bus == other.bus && self.device == other.device
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$",
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Parses `DDDD:BB:SS.F`, or `BB:SS.F` as `lspci` prints it for domain 0, or `pci_DDDD_BB_SS_F`, libvirt's name of the
    /// node device.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = |problem| AddressError { text: text.chars().take(64).collect(), problem };
        let plain = from_node_name(text);
        let no_function = if plain.contains(':') {
            "it has no function"
        } else {
            "it has no bus and no function"
        };
        let (rest, function) = plain.rsplit_once('.').ok_or_else(|| fail(no_function))?;
        let mut parts = rest.rsplit(':');
        let device = parts.next().unwrap_or_default();
        let bus = parts.next().ok_or_else(|| fail("it has no bus"))?;
        let domain = parts.next();
        if parts.next().is_some() {
            return Err(fail("it has too many parts"));
        }
        let hex = |digits: &str, least: usize, most: usize, problem| {
            let right = (least..=most).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_hexdigit());
            right
                .then(|| u32::from_str_radix(digits, 16).ok())
                .flatten()
                .ok_or_else(|| fail(problem))
        };
        let domain =
            domain.map_or(Ok(0), |d| hex(d, 4, 8, "its domain is not 4 to 8 hex digits"))?;
        let bus = hex(bus, 2, 2, "its bus is not two hex digits")?;
        let device = hex(device, 2, 2, "its device is not two hex digits")?;
        let function = hex(function, 1, 1, "its function is not one digit")?;
        let narrow = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
        Self::new(domain, narrow(bus), narrow(device), narrow(function))
            .ok_or_else(|| fail("a device is at most 1f and a function at most 7"))
    }
}

/// The usual form of an address that is written as libvirt's node name (`pci_0000_01_00_0`); other texts are unchanged.
fn from_node_name(text: &str) -> std::borrow::Cow<'_, str> {
    let parts = text.strip_prefix("pci_").map(|rest| rest.split('_').collect::<Vec<_>>());
    match parts.as_deref() {
        Some([domain, bus, device, function]) => {
            format!("{domain}:{bus}:{device}.{function}").into()
        }
        _ => text.into(),
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        let full: Address = "0000:a2:1f.7".parse().unwrap();
        assert_eq!(full.to_string(), "0000:a2:1f.7");
        assert_eq!("a2:1f.7".parse::<Address>().unwrap(), full);
        let vmd: Address = "10000:e1:00.0".parse().unwrap();
        assert_eq!((vmd.domain(), vmd.to_string().as_str()), (0x10000, "10000:e1:00.0"));
        assert_eq!("pci_0000_a2_1f_7".parse::<Address>().unwrap(), full);
        assert_eq!("pci_10000_e1_00_0".parse::<Address>().unwrap(), vmd);
    }

    #[test]
    fn refuses_what_is_none_and_says_why() {
        for text in ["", "hello", "0000:00:00", "0000:00:20.0", "0000:00:00.8", "000:00:00.0"]
            .into_iter()
            .chain([
                "pci_0000_a2_1f",
                "pci_0000_a2_1f_8",
                "pci_0000_a2_1f_7_0",
                "pci_0000:a2_1f_7",
                "pci_",
            ])
            .chain(["0000:000:00.0", "0:0000:00:00.0", "0000:0g:00.0", "0000:00:00.00", "+0:00.0"])
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        let error = "0000:00:20.0".parse::<Address>().unwrap_err().to_string();
        assert!(error.contains("at most 1f") && error.contains("handover ls"), "{error}");
    }

    proptest! {
        #[test]
        fn any_address_survives_its_text(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = Address::new(domain, bus, device, function).unwrap();
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Address>();
        }
    }
}
