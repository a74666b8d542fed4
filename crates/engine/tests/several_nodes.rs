//! Machines whose devices are on several NUMA nodes of the host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use engine::{ChangeInstance, ChangeMachine, CreateInstance, DeviceWish, Engine};
use model::{CpuLayout, HostCpu, Placement, PlacementUse};
use support::{AMD, GPU, GPU_AUDIO, NIC, NVME, Rig, at, wish};

/// A host of two nodes with two cores each; the GPU is on the first one, NIC and drive on the second, the other card on none.
fn host() -> Rig {
    let mut hardware = sim::Hardware::from(sim::workstation());
    for (address, node) in
        [(GPU, Some(0)), (GPU_AUDIO, Some(0)), (NIC, Some(1)), (NVME, Some(1)), (AMD, None)]
    {
        hardware.inventory.functions.get_mut(&at(address)).unwrap().numa_node = node;
    }
    let rig = Rig::on(hardware).stocked();
    let cpu = |number| HostCpu { number, node: number / 2, core: number, isolated: false };
    rig.host.set_cpu_layout(CpuLayout {
        cpus: (0..4).map(cpu).collect(),
        nodes: [(0, 64 << 30), (1, 64 << 30)].into(),
    });
    rig
}

fn request() -> CreateInstance {
    CreateInstance { placement: PlacementUse::Auto, vcpus: Some(2), ..wish("vm", &["gpu", "nic"]) }
}

fn placed(rig: &Rig, engine: &Engine) -> Option<Placement> {
    rig.launcher.launched(engine.instances().find("vm").unwrap().id).unwrap().placement
}

/// The port that a device gets while the machine runs.
fn attach(rig: &Rig, engine: &Engine, device: &str, address: &str) -> u32 {
    let wish = DeviceWish::Registered(device.into());
    let id = engine.instances().attach_device("vm", &wish).unwrap().id;
    let ports = rig.launcher.ports(id);
    ports.into_iter().find(|(_, functions)| functions.contains(&at(address))).unwrap().0
}

#[test]
fn the_guest_has_the_nodes_and_root_complexes_of_its_devices() {
    let rig = host();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(request()).unwrap();
    let placement = placed(&rig, &engine).unwrap();
    let cells: Vec<_> = placement.cells.iter().map(|cell| (cell.node, cell.vcpus)).collect();
    assert_eq!(cells, [(0, 1), (1, 1)]);
    let roots: Vec<_> =
        placement.roots.iter().map(|root| (root.cell, root.ports.clone())).collect();
    assert_eq!(roots, [(0, vec![0]), (1, vec![1])]);
    assert_eq!(placement.cpus, [1, 3], "a core of each node");
}

#[test]
fn a_device_that_comes_later_gets_no_port_of_another_node() {
    let rig = host();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(request()).unwrap();
    let soon = Duration::from_millis(10);
    engine.instances().detach_device("vm", "gpu", soon).unwrap();
    engine.instances().detach_device("vm", "nic", soon).unwrap();
    assert_eq!(
        attach(&rig, &engine, "nvme", NVME),
        1,
        "the port that a device of its node has left"
    );
    assert_eq!(attach(&rig, &engine, "amd", AMD), 2, "one of the first root complex");
}

#[test]
fn a_machine_of_an_earlier_version_keeps_its_layout_until_it_is_placed_anew() {
    let rig = host();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(request()).unwrap();
    engine.instances().stop("vm").unwrap();
    drop(engine);
    let forget = "UPDATE instances SET options = json_remove(options, '$.mirrors_nodes')";
    rig.sqlite().execute(forget, []).unwrap();
    let (engine, _) = rig.open_recovered();
    engine.instances().start("vm").unwrap();
    assert_eq!(placed(&rig, &engine), None);
    engine.instances().stop("vm").unwrap();
    let machine = ChangeMachine { placement: Some(PlacementUse::Auto), ..ChangeMachine::default() };
    engine
        .instances()
        .change("vm", ChangeInstance { machine, ..ChangeInstance::default() })
        .unwrap();
    engine.instances().start("vm").unwrap();
    assert_eq!(placed(&rig, &engine).unwrap().cells.len(), 2);
}
