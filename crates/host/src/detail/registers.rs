//! Parses the capabilities in configuration space (numbers: include/uapi/linux/pci_regs.h).

use model::{Acs, Detail, Link, PortType, ResizableBar};

use super::config::Config;
use super::names;

const POWER_MANAGEMENT: u16 = 0x01;
const EXPRESS: u16 = 0x10;
const ADVANCED_FEATURES: u16 = 0x13;
const SERIAL_NUMBER: u16 = 0x03;
const ACCESS_CONTROL: u16 = 0x0d;
const RESIZABLE_BAR: u16 = 0x15;

/// Fills in everything from configuration space.
pub fn fill(config: Config<'_>, detail: &mut Detail) {
    detail.serial = serial_number(config);
    detail.capabilities = names::of(config);
    if let Some(express) = config.capability(EXPRESS) {
        detail.port_type = port_type(config, express);
    }
    detail.link = link_of(config);
    detail.acs = acs(config);
    detail.flr = flr(config);
    detail.pm_reset = pm_reset(config);
    detail.resizable_bars = resizable_bars(config);
}

/// The device serial number, in `lspci`'s format (PCI Express Base Specification, 7.9.3).
pub fn serial_number(config: Config<'_>) -> Option<String> {
    let at = config.extended_capability(SERIAL_NUMBER)?;
    let number = u64::from(config.dword(at + 8)?) << 32 | u64::from(config.dword(at + 4)?);
    Some(number.to_be_bytes().map(|byte| format!("{byte:02x}")).join("-"))
}

fn port_type(config: Config<'_>, express: usize) -> Option<PortType> {
    Some(match config.word(express + 2)? >> 4 & 0xf {
        0x0 => PortType::Endpoint,
        0x1 => PortType::LegacyEndpoint,
        0x4 => PortType::RootPort,
        0x5 => PortType::SwitchUpstream,
        0x6 => PortType::SwitchDownstream,
        0x7 => PortType::PcieToPci,
        0x8 => PortType::PciToPcie,
        0x9 => PortType::RootComplexEndpoint,
        0xa => PortType::EventCollector,
        _ => return None,
    })
}

/// The link of a function; `None` if it has none.
pub fn link_of(config: Config<'_>) -> Option<Link> {
    let express = config.capability(EXPRESS)?;
    let connected = !matches!(
        port_type(config, express),
        Some(PortType::RootComplexEndpoint | PortType::EventCollector)
    );
    link(config, express).filter(|_| connected)
}

fn link(config: Config<'_>, express: usize) -> Option<Link> {
    // The registers have the same two fields: bits 0-3 and 4-9.
    let fields = |register: u16| (speed(register & 0xf), (register >> 4 & 0x3f) as u8);
    let (max_speed, max_width) = fields(config.word(express + 0x0c)?);
    let (now, width) = fields(config.word(express + 0x12)?);
    let speed = if width == 0 { 0 } else { now };
    // Virtual functions have no link of their own: these registers are all zero.
    (max_width != 0).then_some(Link { speed, width, max_speed, max_width })
}

/// A speed in tenths of GT/s; 0 for an unknown code.
const fn speed(code: u16) -> u16 {
    match code {
        1 => 25,
        2 => 50,
        3 => 80,
        4 => 160,
        5 => 320,
        6 => 640,
        _ => 0,
    }
}

fn acs(config: Config<'_>) -> Option<Acs> {
    let at = config.extended_capability(ACCESS_CONTROL)?;
    Some(Acs { supported: config.word(at + 4)?, enabled: config.word(at + 6)? })
}

/// Function Level Reset: `PCI_EXP_DEVCAP_FLR`, or for a conventional function `PCI_AF_CAP_TP` and `PCI_AF_CAP_FLR`.
fn flr(config: Config<'_>) -> Option<bool> {
    if config.is_header_only() {
        return None;
    }
    if let Some(express) = config.capability(EXPRESS)
        && config.dword(express + 4)? & 1 << 28 != 0
    {
        return Some(true);
    }
    let Some(features) = config.capability(ADVANCED_FEATURES) else { return Some(false) };
    Some(config.byte(features + 3)? & 0b11 == 0b11)
}

fn pm_reset(config: Config<'_>) -> Option<bool> {
    const NO_SOFT_RESET: u16 = 1 << 3;
    if config.is_header_only() {
        return None;
    }
    let Some(at) = config.capability(POWER_MANAGEMENT) else { return Some(false) };
    Some(config.word(at + 4)? & NO_SOFT_RESET == 0)
}

/// The resizable BARs: a pair of registers each; the first control register has their number.
fn resizable_bars(config: Config<'_>) -> Vec<ResizableBar> {
    let Some(at) = config.extended_capability(RESIZABLE_BAR) else { return Vec::new() };
    let count = config.dword(at + 8).map_or(0, |control| control >> 5 & 0x7).min(6);
    let bar = |number: u32| {
        let pair = at + 8 * usize::try_from(number).ok()?;
        let (sizes, control) = (config.dword(pair + 4)?, config.dword(pair + 8)?);
        // Bit 4 of the first register means 1 MiB, bit 31 means 128 TiB; the control register's upper half continues.
        let sizes = u64::from(sizes >> 4) | u64::from(control >> 16) << 28;
        Some(ResizableBar {
            index: (control & 0x7) as u8,
            size: mebibytes(control >> 8 & 0x3f)?,
            largest: mebibytes(sizes.checked_ilog2()?)?,
        })
    };
    (0..count).filter_map(bar).collect()
}

/// 2 to the power of `exponent`, in MiB.
fn mebibytes(exponent: u32) -> Option<u64> {
    (exponent < 44).then(|| 1 << (20 + exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(entries: &[(usize, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[0x06] = 0x10;
        bytes[0x34] = 0x40;
        for (at, value) in entries {
            bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn detail(bytes: &[u8]) -> Detail {
        let mut detail = Detail::default();
        fill(Config::new(bytes), &mut detail);
        detail
    }

    #[test]
    fn a_gpus_link_resets_and_bars_are_read() {
        let gpu = detail(&space(&[
            (0x40, 0x0003_6001),             // PM
            (0x44, 0x0000_0008),             // NO_SOFT_RESET
            (0x60, 0x0002_7810),             // PCIe endpoint
            (0x64, 1 << 28),                 // FLR
            (0x6c, 0x0000_0104),             // x16, 16 GT/s
            (0x70, 0x1081 << 16),            // x8, 2.5 GT/s
            (0x78, 0x0000_0005),             // MSI
            (0x100, 0x1400_0001 | 0x1_0000), // AER
            (0x140, 0x1600_0003 | 0x1_0000), // DSN
            (0x144, 0xff00_0001),
            (0x148, 0x0011_22ff),
            (0x160, 0x0001_0015),         // ReBAR
            (0x164, 0x001f_fc00),         // 64 MiB to 64 GiB
            (0x168, 1 | 1 << 5 | 8 << 8), // BAR 1, one of them, 256 MiB
        ]));
        assert_eq!(gpu.serial.as_deref(), Some("00-11-22-ff-ff-00-00-01"));
        assert_eq!(gpu.port_type, Some(PortType::Endpoint));
        assert_eq!(gpu.link, Some(Link { speed: 25, width: 8, max_speed: 160, max_width: 16 }));
        assert_eq!((gpu.flr, gpu.pm_reset, gpu.acs), (Some(true), Some(false), None));
        let bar = ResizableBar { index: 1, size: 256 << 20, largest: 64 << 30 };
        assert_eq!(gpu.resizable_bars, [bar]);
        assert_eq!(gpu.capabilities, ["PM", "PCIe", "MSI", "AER", "DSN", "ReBAR"]);
    }

    #[test]
    fn a_null_capability_is_skipped() {
        // An H200's list begins with one.
        let gpu =
            detail(&space(&[(0x40, 0x0003_0001), (0x100, 0x12c0_0000), (0x12c, 0x0001_0018)]));
        assert_eq!(gpu.capabilities, ["PM", "LTR"]);
    }

    #[test]
    fn the_acs_of_a_root_port_is_read() {
        let port = detail(&space(&[
            (0x40, 0x0142_0010),
            (0x4c, 0x0000_0083),
            (0x50, 0x0083 << 16),
            (0x100, 0x0001_000d),
            (0x104, 0x001d_007f),
        ]));
        assert_eq!(port.port_type, Some(PortType::RootPort));
        let acs = port.acs.unwrap();
        assert_eq!((acs.supported, acs.enabled, acs.isolates()), (0x7f, 0x1d, true));
        assert_eq!((port.flr, port.pm_reset), (Some(false), Some(false)));
    }

    #[test]
    fn a_conventional_function_resets_by_its_advanced_features() {
        let conventional = detail(&space(&[(0x40, 0x0306_0013)]));
        assert_eq!((conventional.flr, conventional.link), (Some(true), None));
    }

    #[test]
    fn from_a_header_alone_nothing_is_concluded() {
        let header = detail(&space(&[])[..64]);
        assert_eq!((header.flr, header.pm_reset, header.serial), (None, None, None));
    }

    #[test]
    fn nothing_there_and_nonsense_are_no_serial_number() {
        assert_eq!(serial_number(Config::new(&[0; 256])), None);
        assert_eq!(serial_number(Config::new(&[0xff; 4096])), None);
        // A capability that names itself as the next one.
        assert_eq!(serial_number(Config::new(&space(&[(0x100, 0x1000_0001)]))), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = detail(&bytes);
        }

        #[test]
        fn no_capability_panics(id in 0u32..0x31, at in 0x40usize..0xfd, words in proptest::collection::vec(any::<u32>(), 1..16), extended: bool) {
            let mut bytes = space(&[]);
            bytes[0x34] = at as u8;
            let at = if extended { 0x100 } else { at & !3 };
            for (index, word) in words.iter().enumerate() {
                let word = if index == 0 { word & 0xffff_0000 | id } else { *word };
                bytes[at + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
            }
            for length in [64, 256, 4096] {
                let _ = detail(&bytes[..length]);
            }
        }
    }
}
