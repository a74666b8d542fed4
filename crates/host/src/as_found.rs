//! What must be put back later, and what a function is known by. Read in a worker: `driver_override` takes the
//! device's lock (before Linux 7.x), and `config` wakes the device.

use model::{Address, AsFound, Fingerprint, HostError, Id, PowerControl};
use rustix::io::Errno;

use crate::detail::{Config, WHOLE, link_baseline, serial_number};
use crate::inventory::DEVICES;
use crate::place::Place;
use crate::problem;
use crate::root::{Dir, Root};

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
    let config = dir.bytes("config", WHOLE).ok();
    let subsystem_vendor = subsystem("subsystem_vendor").filter(|id| id.0 != 0);
    Ok(AsFound {
        address,
        driver: driver(&dir).map_err(|errno| file("driver", errno))?,
        driver_override: driver_override(&dir).map_err(|errno| file("driver_override", errno))?,
        power: power(&dir),
        link: config.as_deref().and_then(|bytes| link_baseline(&dir, Config::new(bytes))),
        fingerprint: Fingerprint {
            vendor: id("vendor")?,
            device: id("device")?,
            subsystem_vendor,
            subsystem_device: subsystem("subsystem_device")
                .filter(|id| id.0 != 0 || subsystem_vendor.is_some()),
            serial: config.as_deref().and_then(|bytes| serial_number(Config::new(bytes))),
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
