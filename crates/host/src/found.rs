//! What must be put back later, and what a function is known by. Read in a worker: `driver_override` takes the
//! device's lock (before Linux 7.x), and `config` wakes the device.

use model::{Address, AsFound, Fingerprint, HostError, Id, PowerControl};
use rustix::io::Errno;

use crate::inventory::DEVICES;
use crate::place::Place;
use crate::problem;
use crate::root::{Dir, Root};

/// Extended configuration space ends here (PCI Express Base Specification, 7.2).
const CONFIG_SPACE: usize = 4096;
const EXTENDED_CAPABILITIES: usize = 0x100;
/// `PCI_EXT_CAP_ID_DSN` in include/uapi/linux/pci_regs.h.
const SERIAL_NUMBER: u32 = 0x0003;

/// Reads a function as it is now.
pub fn read(root: &Root, address: Address) -> Result<AsFound, HostError> {
    let path = format!("{DEVICES}/{address}");
    let gone = |errno| match errno {
        Errno::NOENT | Errno::NODEV => HostError::Gone { address },
        errno => problem::file(root, "look into", &path, errno),
    };
    let link = root.link(&path).map_err(gone)?;
    let dir = root.dir(&path).map_err(gone)?;
    let file = |name: &str, errno| problem::file(root, "read", &format!("{path}/{name}"), errno);
    let id = |name: &str| -> Result<Id, HostError> {
        let text = dir.text(name).map_err(|errno| file(name, errno))?;
        text.parse().map_err(|_| file(name, Errno::INVAL))
    };
    let subsystem = |name: &str| id(name).ok();
    let subsystem_vendor = subsystem("subsystem_vendor").filter(|id| id.0 != 0);
    Ok(AsFound {
        address,
        driver: driver(&dir).map_err(|errno| file("driver", errno))?,
        driver_override: driver_override(&dir).map_err(|errno| file("driver_override", errno))?,
        power: power(&dir),
        fingerprint: Fingerprint {
            vendor: id("vendor")?,
            device: id("device")?,
            subsystem_vendor,
            subsystem_device: subsystem("subsystem_device")
                .filter(|id| id.0 != 0 || subsystem_vendor.is_some()),
            serial: dir.bytes("config", CONFIG_SPACE).ok().as_deref().and_then(serial_number),
            slot_path: Place::of_link(&link).slot_path,
        },
    })
}

/// The driver that has a function.
pub fn driver(dir: &Dir) -> Result<Option<String>, Errno> {
    match dir.link_name("driver") {
        Ok(name) => Ok(Some(name)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The override that is set; the kernel prints a null pointer as `(null)`.
pub fn driver_override(dir: &Dir) -> Result<Option<String>, Errno> {
    let text = dir.text("driver_override")?;
    Ok(Some(text).filter(|text| !text.is_empty() && text != "(null)"))
}

/// `power/control`, where it can be read.
pub fn power(dir: &Dir) -> Option<PowerControl> {
    match dir.text("power/control").ok()?.as_str() {
        "auto" => Some(PowerControl::Auto),
        "on" => Some(PowerControl::On),
        _ => None,
    }
}

/// The device serial number in configuration space, the way `lspci` writes it.
fn serial_number(config: &[u8]) -> Option<String> {
    let dword = |at: usize| {
        let bytes = config.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let mut at = EXTENDED_CAPABILITIES;
    // A list that runs in a circle must end: there is no room for more capabilities than this.
    for _ in 0..(CONFIG_SPACE - EXTENDED_CAPABILITIES) / 8 {
        let header = dword(at)?;
        if header == 0 || header == u32::MAX {
            return None;
        }
        if header & 0xffff == SERIAL_NUMBER {
            let number = u64::from(dword(at + 8)?) << 32 | u64::from(dword(at + 4)?);
            let bytes = number.to_be_bytes().map(|byte| format!("{byte:02x}"));
            return Some(bytes.join("-"));
        }
        at = usize::try_from(header >> 20 & 0xffc).ok()?;
        if at < EXTENDED_CAPABILITIES {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(entries: &[(usize, u32)]) -> Vec<u8> {
        let mut config = vec![0; CONFIG_SPACE];
        for (at, value) in entries {
            config[*at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        config
    }

    #[test]
    fn finds_the_serial_number_behind_other_capabilities() {
        let config = space(&[
            (0x100, 0x1400_0001 | 0x1_0000),
            (0x140, 0x0001_0003),
            (0x144, 0xff00_0001),
            (0x148, 0x0011_22ff),
        ]);
        assert_eq!(serial_number(&config).unwrap(), "00-11-22-ff-ff-00-00-01");
    }

    #[test]
    fn nothing_there_and_nonsense_are_no_serial_number() {
        assert_eq!(serial_number(&[0; 256]), None);
        assert_eq!(serial_number(&[0xff; CONFIG_SPACE]), None);
        // A capability that names itself as the next one.
        assert_eq!(serial_number(&space(&[(0x100, 0x1000_0001)])), None);
    }
}
