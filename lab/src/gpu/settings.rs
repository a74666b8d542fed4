//! The settings of one emulated function, from a topology file.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// One emulated PCI Express function. The default is a data-centre GPU of 2020.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Vendor id.
    #[serde(with = "hex")]
    pub vendor: u16,
    /// Device id.
    #[serde(with = "hex")]
    pub device: u16,
    /// Class code, six hex digits: base class, subclass, programming interface.
    #[serde(with = "hex")]
    pub class: u32,
    /// Subsystem vendor id.
    #[serde(with = "hex")]
    pub subsystem_vendor: u16,
    /// Subsystem id.
    #[serde(with = "hex")]
    pub subsystem_device: u16,
    /// Revision id.
    #[serde(with = "hex")]
    pub revision: u8,
    /// Serial number; without it the function has no Device Serial Number capability.
    #[serde(with = "hex_option", skip_serializing_if = "Option::is_none")]
    pub serial: Option<u64>,
    /// The memory BARs.
    pub bars: Vec<Bar>,
    /// The value of the id register at the start of BAR 0.
    #[serde(with = "hex")]
    pub boot0: u32,
    /// How long the function does not answer after a reset, in ms.
    pub flr_delay_ms: u64,
    /// The fault.
    pub fault: Fault,
}

/// One memory BAR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// 0 to 5. A 64-bit BAR occupies the next index too.
    pub index: u8,
    /// Size: a power of two, such as `"16M"`.
    #[serde(with = "size")]
    pub size: u64,
    /// Whether the bridge above may prefetch from it.
    #[serde(default)]
    pub prefetchable: bool,
    /// Whether it can lie above 4 GiB.
    #[serde(default)]
    pub is_64bit: bool,
    /// The size of the memory at its start. The rest reads all ones. Pages use memory only after a write, so this is
    /// only a limit.
    #[serde(with = "size", default = "default_memory")]
    pub memory: u64,
}

/// A fault of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It disappears from the bus at the first reset, and never answers again.
    DeadAfterReset,
    /// Each reset takes this long.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
}

impl Default for Settings {
    fn default() -> Self {
        let bar = |index, megabytes: u64, wide| Bar {
            index,
            size: megabytes << 20,
            prefetchable: wide,
            is_64bit: wide,
            memory: default_memory(),
        };
        Self {
            vendor: 0x10de,
            device: 0x20b0,
            class: 0x03_02_00,
            subsystem_vendor: 0x10de,
            subsystem_device: 0x144e,
            revision: 0xa1,
            serial: None,
            bars: vec![bar(0, 16, false), bar(1, 256, true), bar(3, 32, true)],
            boot0: 0x1700_00a1,
            flr_delay_ms: 0,
            fault: Fault::None,
        }
    }
}

impl Settings {
    /// Refuses invalid settings, with better errors than QEMU's.
    pub fn check(&self) -> Result<()> {
        ensure!(self.class <= 0xff_ffff, "class {:#x} has more than six hex digits", self.class);
        let mut taken = [false; 6];
        for bar in &self.bars {
            bar.check()?;
            let slots = usize::from(bar.index)..usize::from(bar.index) + bar.slots();
            for slot in slots {
                match taken.get_mut(slot) {
                    Some(free) if !*free => *free = true,
                    Some(_) => bail!("BAR {slot} is used twice (a 64-bit BAR takes two)"),
                    None => bail!("BAR {} does not fit into the six BARs", bar.index),
                }
            }
        }
        Ok(())
    }
}

impl Bar {
    /// The number of BAR registers that it uses, of six.
    pub fn slots(&self) -> usize {
        if self.is_64bit { 2 } else { 1 }
    }

    /// Checks the size: a power of two, at least 128 bytes (PCI Express Base 7.5.1.2.1); VFIO maps pages, so at least
    /// one.
    fn check(&self) -> Result<()> {
        let Self { index, size, .. } = *self;
        ensure!(size.is_power_of_two(), "BAR {index}: {size} is not a power of two");
        ensure!(size >= 4096, "BAR {index}: {size} bytes is less than a page");
        let most = if self.is_64bit { 1 << 46 } else { 1 << 31 };
        ensure!(size <= most, "BAR {index}: {} is too large", size::format(size));
        Ok(())
    }
}

fn default_memory() -> u64 {
    16 << 20
}

/// Numbers as hex strings, like PCI ids.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::LowerHex;

    pub fn parse<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let well_formed = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u64::from_str_radix(digits, 16).ok().filter(|_| well_formed);
        let number = number.ok_or_else(|| format!("`{text}` is not a hexadecimal number"))?;
        T::try_from(number).map_err(|_| format!("`{text}` has too many digits"))
    }

    pub fn serialize<T: LowerHex, S: Serializer>(number: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{number:#x}"))
    }

    pub fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// The same for optional numbers.
mod hex_option {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(number: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match number {
            Some(number) => super::hex::serialize(number, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| super::hex::parse(&text)).transpose().map_err(D::Error::custom)
    }
}

/// Sizes as `"16M"`; the units are powers of 1024.
mod size {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

    pub fn parse(text: &str) -> Result<u64, String> {
        let unit = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(*unit)?, *shift)));
        let (digits, shift) = unit.unwrap_or((text, 0));
        let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        number.ok_or_else(|| format!("`{text}` is not a size such as 16M"))
    }

    pub fn format(bytes: u64) -> String {
        let fits = |shift: u32| bytes != 0 && bytes.trailing_zeros() >= shift;
        match UNITS.iter().find(|(_, shift)| fits(*shift)) {
            Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
            None => bytes.to_string(),
        }
    }

    pub fn serialize<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format(*bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(index: u8, size: u64, is_64bit: bool) -> Bar {
        Bar { index, size, prefetchable: is_64bit, is_64bit, memory: 4096 }
    }

    fn refusal(bars: Vec<Bar>) -> String {
        Settings { bars, ..Settings::default() }.check().unwrap_err().to_string()
    }

    #[test]
    fn reads_what_a_topology_file_says() {
        let text = r#"
            device = "2204"
            class = "0x030000"
            serial = "0x48b02dfffe000001"
            fault = { slow = { ms = 1500 } }
            bars = [{ index = 0, size = "16M" },
                    { index = 1, size = "16G", prefetchable = true, is_64bit = true, memory = "1M" }]
        "#;
        let settings: Settings = toml::from_str(text).unwrap();
        assert_eq!((settings.vendor, settings.device, settings.class), (0x10de, 0x2204, 0x30000));
        assert_eq!(settings.serial, Some(0x48b0_2dff_fe00_0001));
        assert_eq!(settings.fault, Fault::Slow { ms: 1500 });
        assert_eq!(settings.bars[1].size, 16 << 30);
        assert_eq!(settings.bars[1].memory, 1 << 20);
        settings.check().unwrap();
        let fault: Settings = toml::from_str("fault = \"dead-after-reset\"").unwrap();
        assert_eq!(fault.fault, Fault::DeadAfterReset);
    }

    #[test]
    fn writes_what_it_reads() {
        for serial in [None, Some(0x1234)] {
            for fault in [Fault::None, Fault::DeadAfterReset, Fault::Slow { ms: 7 }] {
                let settings = Settings { serial, fault, ..Settings::default() };
                let text = toml::to_string(&settings).unwrap();
                assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings, "{text}");
            }
        }
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for text in [
            "speed = 1",
            "vendor = \"0x12345\"",
            "vendor = \"nvidia\"",
            "vendor = \"+1\"",
            "vendor = 4318",
            "fault = \"late\"",
            "bars = [{ index = 0, size = \"16X\" }]",
            "bars = [{ index = 0, size = \"99999999T\" }]",
        ] {
            assert!(toml::from_str::<Settings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_bars_that_no_function_can_have() {
        assert!(refusal(vec![bar(0, 12288, false)]).contains("power of two"));
        assert!(refusal(vec![bar(0, 1024, false)]).contains("less than a page"));
        assert!(refusal(vec![bar(0, 1 << 32, false)]).contains("4G is too large"));
        assert!(refusal(vec![bar(0, 4096, true), bar(1, 4096, false)]).contains("used twice"));
        assert!(refusal(vec![bar(5, 4096, true)]).contains("does not fit"));
        assert!(refusal(vec![bar(255, 4096, false)]).contains("does not fit"));
        let class = Settings { class: 0x100_0000, ..Settings::default() };
        assert!(class.check().is_err());
    }
}
