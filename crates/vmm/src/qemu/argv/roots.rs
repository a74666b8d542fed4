//! The root complexes besides the first: one for each that devices of the machine share on the host, on the NUMA node of the guest
//! that stands for the host's. So the guest's `numa_node` of a device is right, and devices below one host bridge are below one.
//!
//! They are bridges of the first root complex (`pxb-pcie`, docs/pcie.txt of QEMU) with bus numbers of their own.

use model::{GuestRoot, MachineSpec};
use serde_json::json;

use super::{Ports, device_port_count, port_id};

/// The slot of the first root complex for the first of these, which have the slots before it: the root ports are counted from the
/// first slot, and the slot after it has the screen.
const SLOT: usize = 0x1d;

/// The most of them.
const MOST: usize = 16;

/// The buses that the first root complex keeps at least, besides one for each port.
const LEAST_FIRST: usize = 32;

/// Adds them. Devices for which there is no more room are in the first one.
pub fn roots(ports: &mut Ports, spec: &MachineSpec) {
    let roots = spec.placement.as_ref().map_or(&[][..], |placed| &placed.roots);
    let first = LEAST_FIRST + usize::try_from(device_port_count(spec)).unwrap_or(usize::MAX / 2);
    // Buses that were chosen are those of the first one.
    let chosen = spec.slots.iter().filter_map(|slot| slot.bus.map(|bus| (slot.port, bus)));
    let last = chosen.clone().map(|(_, bus)| usize::from(bus.number())).max().unwrap_or(0);
    let first = first.max(last + 1);
    let mut bus = 256;
    for (number, GuestRoot { cell, ports: behind }) in roots.iter().take(MOST).enumerate() {
        // Its own bus, and for each port one for the device and one to spare. They are given out downward.
        let needed = 1 + 2 * behind.len();
        if bus < first + needed {
            return;
        }
        bus -= needed;
        let id = format!("root{}", number + 1);
        ports.roots.push(json!({
            "driver": "pxb-pcie",
            "id": id,
            "bus": super::FIRST_ROOT,
            "addr": format!("{:x}.0", SLOT - number),
            "bus_nr": bus,
            "numa_node": cell,
        }));
        ports.behind.extend(
            behind
                .iter()
                .filter(|port| !chosen.clone().any(|(own, _)| own == **port))
                .map(|port| (port_id(*port), id.clone())),
        );
    }
}
