//! What QEMU would be started with, in words.

use std::path::Path;

use model::shown::bytes;
use model::{Choice, MachineSpec};

use super::argv::port_id;
use super::binary::Accelerator;
use super::firmware::Build;
use super::mmio_window::{AddressSpace, Room};

/// The choices for a machine whose devices fit its address space.
pub fn of(
    spec: &MachineSpec,
    root: &Path,
    version: &str,
    accelerator: Accelerator,
    firmware: Option<&Build>,
    space: &AddressSpace,
) -> Vec<Choice> {
    let mut all = vec![Choice::new(
        "hypervisor",
        format!("QEMU {version}"),
        match accelerator {
            Accelerator::Kvm { .. } => "with KVM",
            Accelerator::Tcg => "without KVM, which this host does not have: slow",
        },
    )];
    all.push(match firmware {
        Some(build) => Choice::new(
            "firmware",
            spec.options.firmware.as_str(),
            format!("{}, by QEMU's descriptors", build.code.display()),
        ),
        None => Choice::new("firmware", "bios", "QEMU's own"),
    });
    for slot in &spec.slots {
        let functions: Vec<String> = slot.addresses().map(|address| address.to_string()).collect();
        let functions =
            if functions.is_empty() { "a mediated device".into() } else { functions.join(" and ") };
        all.push(Choice::new(
            format!("port {}", port_id(slot.port)),
            functions,
            format!("one slot of the guest, with room for {}", room(Room::of(root, slot))),
        ));
    }
    all.extend(roots(spec));
    if spec.spare.count > 0 {
        let why = if space.sized < spec.spare.count {
            format!(
                "{} of them with room for the largest registered device: the processor's {} address bits reach no further",
                space.sized, space.bits
            )
        } else {
            format!("for devices that come while it runs, each with room for {}", room(space.spare))
        };
        all.push(Choice::new("spare ports", spec.spare.count.to_string(), why));
    }
    all.push(window(space));
    all
}

/// The root complexes of a guest with several NUMA nodes.
fn roots(spec: &MachineSpec) -> Vec<Choice> {
    let Some(placed) = &spec.placement else { return Vec::new() };
    let cells = placed.cells.iter().enumerate().map(|(number, cell)| {
        Choice::new(
            format!("guest node {number}"),
            format!("{} virtual CPUs, {}", cell.vcpus, bytes(cell.memory)),
            format!("NUMA node {} of the host has devices of the machine", cell.node),
        )
    });
    let roots = placed.roots.iter().map(|root| {
        let ports: Vec<String> = root.ports.iter().map(|port| port_id(*port)).collect();
        Choice::new(
            "root complex",
            format!("ports {} on guest node {}", ports.join(" "), root.cell),
            "these devices share one on the host",
        )
    });
    cells.chain(roots).collect()
}

fn window(space: &AddressSpace) -> Choice {
    match space.window {
        None => Choice::new(
            "64-bit window",
            "QEMU's usual 32 GB",
            format!("the devices and the spare ports need {}", bytes(space.needed)),
        ),
        Some(window) => Choice::new(
            "64-bit window",
            bytes(window),
            format!(
                "the devices and the spare ports need {}, each aligned to its size; {} address bits allow {}",
                bytes(space.needed),
                space.bits,
                bytes(space.most)
            ),
        ),
    }
}

fn room(room: Room) -> String {
    let parts = [(room.prefetchable, "of 64-bit BARs"), (room.memory, "below 4 GiB")];
    let parts = parts.into_iter().filter(|(size, _)| *size > 0);
    let parts: Vec<String> = parts.map(|(size, of)| format!("{} {of}", bytes(size))).collect();
    if parts.is_empty() { "no BARs that are known".into() } else { parts.join(" and ") }
}
