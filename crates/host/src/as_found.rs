//! The state of a function to restore later, and its identity. Read in a worker: `driver_override` takes the device's
//! lock (before Linux 7.x), and `config` wakes the device.

use model::{Address, AsFound, Fingerprint, HostError, Id};
use rustix::io::Errno;

use crate::bus_path::BusPath;
use crate::detail::{Config, WHOLE, link_baseline, serial_number};
use crate::function_files::{DEVICES, driver, driver_override, power};
use crate::inventory::Modalias;
use crate::problem;
use crate::root::Root;

/// Reads the present state of a function.
pub fn read(root: &Root, address: Address) -> Result<AsFound, HostError> {
    let path = format!("{DEVICES}/{address}");
    let gone = |errno| match errno {
        Errno::NOENT | Errno::NODEV => HostError::Gone { address },
        errno => problem::file(root, "open", &path, errno),
    };
    let link = root.link(&path).map_err(gone)?;
    let dir = root.dir(&path).map_err(gone)?;
    let file = |name: &str, errno| problem::file(root, "read", &format!("{path}/{name}"), errno);
    // A recording has only the modalias, from which a listing takes all ids.
    let modalias = dir.text("modalias").ok().and_then(|text| Modalias::read(text.trim_end()));
    let id = |name: &str, in_modalias: fn(&Modalias) -> Id| -> Result<Id, HostError> {
        match (dir.text(name), &modalias) {
            (Ok(text), _) => text.parse().map_err(|_| file(name, Errno::INVAL)),
            (Err(Errno::NOENT), Some(modalias)) => Ok(in_modalias(modalias)),
            (Err(errno), _) => Err(file(name, errno)),
        }
    };
    let subsystem = |name: &str, in_modalias| id(name, in_modalias).ok();
    let config = dir.bytes("config", WHOLE).ok();
    let subsystem_vendor =
        subsystem("subsystem_vendor", |ids| ids.subsystem_vendor).filter(|id| id.0 != 0);
    Ok(AsFound {
        address,
        driver: driver(&dir).map_err(|errno| file("driver", errno))?,
        driver_override: driver_override(&dir).map_err(|errno| file("driver_override", errno))?,
        power: power(&dir),
        link: config.as_deref().and_then(|bytes| link_baseline(&dir, Config::new(bytes))),
        fingerprint: Fingerprint {
            vendor: id("vendor", |ids| ids.vendor)?,
            device: id("device", |ids| ids.device)?,
            subsystem_vendor,
            subsystem_device: subsystem("subsystem_device", |ids| ids.subsystem_device)
                .filter(|id| id.0 != 0 || subsystem_vendor.is_some()),
            serial: config.as_deref().and_then(|bytes| serial_number(Config::new(bytes))),
            slot_path: BusPath::of_link(&link).slot_path,
        },
    })
}
