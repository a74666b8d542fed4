//! Vendor, device and class codes of PCI functions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 16-bit PCI id (vendor, device, subsystem), shown as four hex digits without `0x`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u16);

/// A 24-bit class code: base class, subclass, programming interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(pub u32);

/// The kind of a function, for hand-overs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Display functions: VGA (0300), XGA, 3D (0302) and other display controllers.
    Gpu,
    /// Network controllers (02xx) and InfiniBand adapters of the older class (0c06).
    Nic,
    /// NVM Express drives (0108).
    Nvme,
    /// Other mass storage (01xx).
    Storage,
    /// Audio (0401, 0403).
    Audio,
    /// USB controllers (0c03), and the USB-C controller of a display card (0c80; see [`Function::kind`](crate::Function::kind)).
    Usb,
    /// Processing accelerators (1200) and co-processors (0b40), such as Intel's QuickAssist.
    Accelerator,
    /// PCI-to-PCI bridges (0604, 0609): never handed over.
    Bridge,
    /// Everything else, including host and ISA bridges.
    Other,
}

impl Id {
    /// What the bus returns for an absent function; also used for an unreadable id.
    pub const NONE: Self = Self(0xffff);

    /// NVIDIA.
    pub const NVIDIA: Self = Self(0x10de);

    /// AMD's graphics (formerly ATI); the rest of AMD is 1022.
    pub const AMD_GPU: Self = Self(0x1002);

    /// AMD's processors and chipsets.
    pub const AMD: Self = Self(0x1022);

    /// Intel.
    pub const INTEL: Self = Self(0x8086);
}

impl Class {
    /// "Device does not fit in any defined class" (PCI Code and ID Assignment Specification); also used for an
    /// unreadable class.
    pub const NONE: Self = Self(0xff_ffff);

    /// Base class and subclass, `0300` for VGA.
    #[must_use]
    pub const fn prefix(self) -> u32 {
        self.0 >> 8
    }

    /// The kind of function with this class.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match (self.0 >> 16, self.prefix()) {
            (0x03, _) => Kind::Gpu,
            (0x02, _) | (_, 0x0c06) => Kind::Nic,
            (_, 0x0108) => Kind::Nvme,
            (0x01, _) => Kind::Storage,
            (_, 0x0401 | 0x0403) => Kind::Audio,
            (_, 0x0c03) => Kind::Usb,
            (0x12, _) | (_, 0x0b40) => Kind::Accelerator,
            (_, 0x0604 | 0x0609) => Kind::Bridge,
            _ => Kind::Other,
        }
    }
}

impl Kind {
    /// The name of this kind in filters and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Nic => "nic",
            Self::Nvme => "nvme",
            Self::Storage => "storage",
            Self::Audio => "audio",
            Self::Usb => "usb",
            Self::Accelerator => "accelerator",
            Self::Bridge => "bridge",
            Self::Other => "other",
        }
    }

    /// Every kind, in the order that a listing shows them.
    pub const ALL: [Self; 9] = [
        Self::Gpu,
        Self::Accelerator,
        Self::Nic,
        Self::Nvme,
        Self::Storage,
        Self::Audio,
        Self::Usb,
        Self::Other,
        Self::Bridge,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("{text:?} is not a kind of device; the kinds are {}", known.join(", "))
        })
    }
}

/// Hexadecimal text with or without `0x`, of at most `most` digits.
fn parse_hex(text: &str, most: usize) -> Option<u32> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let right = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    right.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

macro_rules! hex_text {
    ($name:ident, $width:literal, $what:literal, $make:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $width, "x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                parse_hex(text.trim(), $width)
                    .and_then($make)
                    .ok_or_else(|| format!("{text:?} is not {}", $what))
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^[0-9a-f]{", $width, "}$"),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_text!(Id, 4, "a PCI id of up to four hex digits", |value| u16::try_from(value).ok().map(Id));
hex_text!(Class, 6, "a PCI class code of up to six hex digits", |value| Some(Class(value)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_sysfs_and_print_without_prefix() {
        assert_eq!("0x10de\n".parse::<Id>().unwrap().to_string(), "10de");
        assert_eq!("0x030200".parse::<Class>().unwrap().to_string(), "030200");
        assert!("0x10deF".parse::<Id>().is_err());
        assert!("".parse::<Id>().is_err());
    }

    #[test]
    fn an_nvswitch_is_no_bridge() {
        assert_eq!(Class(0x06_8000).kind(), Kind::Other);
        assert_eq!(Class(0x06_0400).kind(), Kind::Bridge);
        assert_eq!(Class(0x03_0200).kind(), Kind::Gpu);
        assert_eq!(Class(0x01_0802).kind(), Kind::Nvme);
    }

    #[test]
    fn kinds_of_less_common_classes() {
        for (class, kind) in [
            (0x0b_4000, Kind::Accelerator),
            (0x12_0000, Kind::Accelerator),
            (0x0c_0600, Kind::Nic),
            (0x02_0700, Kind::Nic),
            // Buses of the board: SPI flash with the firmware, I2C, UART.
            (0x0c_8000, Kind::Other),
            (0x0c_0500, Kind::Other),
        ] {
            assert_eq!(Class(class).kind(), kind, "{class:06x}");
        }
    }
}
