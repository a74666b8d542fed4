//! Interfaces by their hardware addresses.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// Reads a hardware address like `52:54:00:12:34:56`.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Waits for the interface with this address.
pub fn wait_for(mac: [u8; 6], until: Instant) -> Option<Interface> {
    loop {
        let found = all(Path::new("/sys/class/net")).into_iter().find(|one| one.mac == mac);
        if found.is_some() || Instant::now() >= until {
            return found;
        }
        sleep(Duration::from_millis(5));
    }
}

/// All interfaces that have a hardware address.
fn all(class: &Path) -> Vec<Interface> {
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let interface = |entry: fs::DirEntry| {
        let text = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
        Some(Interface {
            name: entry.file_name().into_string().ok()?,
            index: text("ifindex")?.trim().parse().ok()?,
            mac: parse_mac(&text("address")?)?,
        })
    };
    entries.filter_map(interface).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_strictly() {
        assert_eq!(parse_mac("52:54:00:aB:0c:ff\n"), Some([0x52, 0x54, 0, 0xab, 0x0c, 0xff]));
        for wrong in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "5254:00:12:34:56:7",
            "x2:54:00:12:34:56",
        ] {
            assert_eq!(parse_mac(wrong), None, "{wrong}");
        }
    }
}
