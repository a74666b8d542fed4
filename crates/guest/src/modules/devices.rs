//! The devices that are there, by the aliases that the kernel gives them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Buses whose devices a machine can do without: the firmware's tables, the keyboard's and the processor's.
const NOT_FOR_COMMANDS: [&str; 6] = ["acpi", "cpu", "isa", "platform", "pnp", "serio"];

/// QEMU's own chipset has this subsystem; and of its functions these classes have nothing behind them: SATA, bridges,
/// SMBus. Their drivers would take more time than all else.
const CHIPSET: &str = "sv00001AF4sd00001100";
const EMPTY: [&str; 3] = ["bc01sc06", "bc06", "bc0Csc05"];

fn is_for_commands(alias: &str) -> bool {
    !(alias.contains(CHIPSET) && EMPTY.iter().any(|class| alias.contains(class)))
}

/// The aliases of all devices that no driver has, and that a command can use.
pub fn without_driver(buses: &Path) -> BTreeSet<String> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let buses = list(buses).filter(|bus| {
        NOT_FOR_COMMANDS.iter().all(|name| bus.file_name().as_encoded_bytes() != name.as_bytes())
    });
    let devices = buses.flat_map(|bus| list(&bus.path().join("devices")));
    devices
        .map(|device| device.path())
        .filter(|device| !device.join("driver").exists())
        .filter_map(|device| fs::read_to_string(device.join("modalias")).ok())
        .map(|alias| alias.trim().to_owned())
        .filter(|alias| !alias.is_empty() && is_for_commands(alias))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_with_a_driver_need_none() {
        let place = tempfile::tempdir().unwrap();
        let device = |path: &str, alias: &str, driver: bool| {
            let path = place.path().join(path);
            fs::create_dir_all(path.join(if driver { "driver" } else { "power" })).unwrap();
            fs::write(path.join("modalias"), alias).unwrap();
        };
        device("pci/devices/0000:00:01.0", "pci:v1\n", false);
        device("pci/devices/0000:00:02.0", "pci:v2\n", true);
        device("virtio/devices/virtio0", "virtio:d1", false);
        device("virtio/devices/virtio1", "\n", false);
        device("platform/devices/iTCO_wdt", "platform:iTCO_wdt", false);
        let chipset = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
        device("pci/devices/0000:00:1f.2", chipset, false);
        let found = without_driver(place.path());
        assert!(found.iter().eq(["pci:v1", "virtio:d1"]), "{found:?}");
    }
}
