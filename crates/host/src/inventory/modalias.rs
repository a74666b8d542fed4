//! A function's identity in one text: `pci:v000010DEd000020B0sv000010DEsd00001450bc03sc02i00`
//! (`pci_uevent` in drivers/pci/pci-driver.c). One read of `modalias` replaces six other attributes.

use std::fmt;

use model::{Class, Function, Id};

/// A parsed modalias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Modalias {
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// Subsystem vendor id; 0 for none.
    pub subsystem_vendor: Id,
    /// Subsystem id; 0 for none.
    pub subsystem_device: Id,
    /// Class code.
    pub class: Class,
}

impl Modalias {
    /// Parses the text; `None` if it has another format.
    pub fn read(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix("pci:")?;
        let mut field = |name: &str, digits: usize| {
            let value = rest.strip_prefix(name)?.get(..digits)?;
            rest = rest.get(name.len() + digits..)?;
            let hex = value.bytes().all(|byte| byte.is_ascii_hexdigit());
            hex.then(|| u32::from_str_radix(value, 16).ok()).flatten()
        };
        let mut ids = [0; 4];
        for (id, name) in ids.iter_mut().zip(["v", "d", "sv", "sd"]) {
            *id = u16::try_from(field(name, 8)?).ok()?;
        }
        let [vendor, device, subsystem_vendor, subsystem_device] = ids.map(Id);
        let class = field("bc", 2)? << 16 | field("sc", 2)? << 8 | field("i", 2)?;
        let class = Class(class);
        rest.is_empty().then_some(Self {
            vendor,
            device,
            subsystem_vendor,
            subsystem_device,
            class,
        })
    }

    /// The modalias of a function.
    pub fn of(function: &Function) -> Self {
        let id = |id: Option<Id>| id.unwrap_or(Id(0));
        Self {
            vendor: function.vendor,
            device: function.device,
            subsystem_vendor: id(function.subsystem_vendor),
            subsystem_device: id(function.subsystem_device),
            class: function.class,
        }
    }
}

/// Without the prefix `pci:`, which differs between kinds of drivers.
impl fmt::Display for Modalias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vendor, device, subsystem_vendor, subsystem_device, class } = self;
        write!(
            f,
            "v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
            vendor.0,
            device.0,
            subsystem_vendor.0,
            subsystem_device.0,
            class.0 >> 16 & 0xff,
            class.0 >> 8 & 0xff,
            class.0 & 0xff,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_ids_and_the_class_are_parsed() {
        let gpu = Modalias::read("pci:v000010DEd000020B0sv000010DEsd00001450bc03sc02i00").unwrap();
        assert_eq!((gpu.vendor, gpu.device), (Id(0x10de), Id(0x20b0)));
        assert_eq!((gpu.subsystem_vendor, gpu.subsystem_device), (Id(0x10de), Id(0x1450)));
        assert_eq!(gpu.class, Class(0x03_0200));
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "pci:",
            "usb:v1D6Bp0002",
            "pci:v000010DEd000020B0sv000010DEsd00001450bc03sc02i",
            "pci:v000010DEd000020B0sv000010DEsd00001450bc03sc02i001",
            "pci:v100010DEd000020B0sv000010DEsd00001450bc03sc02i00",
            "pci:v+00010DEd000020B0sv000010DEsd00001450bc03sc02i00",
            "pci:v0000é0DEd000020B0sv000010DEsd00001450bc03sc02i00",
        ] {
            assert_eq!(Modalias::read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_definition_is_read_back(v: u16, d: u16, sv: u16, sd: u16, class in 0u32..1 << 24) {
            let [vendor, device, subsystem_vendor, subsystem_device] = [v, d, sv, sd].map(Id);
            let class = Class(class);
            let all = Modalias { vendor, device, subsystem_vendor, subsystem_device, class };
            prop_assert_eq!(Modalias::read(&format!("pci:{all}")), Some(all));
        }

        #[test]
        fn no_text_panics(text in "(pci:)?(v[0-9A-F]{8}|.){0,30}") {
            let _ = Modalias::read(&text);
        }
    }
}
