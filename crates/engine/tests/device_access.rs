//! How machines open their devices: as descriptors where the kernel and the VMM can do that, else by their groups.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use engine::{DeviceWish, Engine};
use model::{DeviceAccess, NodeAccess};
use support::{GPU, Rig, at, wish};

/// A host with iommufd, where the VMM takes descriptors.
fn with_descriptors() -> Rig {
    let mut hardware = sim::Hardware::from(sim::workstation());
    hardware.inventory.vfio.iommufd = true;
    let rig = Rig::on(hardware).stocked();
    rig.launcher.set_takes_descriptors();
    rig
}

fn recorded(engine: &Engine) -> Option<DeviceAccess> {
    engine.instances().find("vm").unwrap().options.device_access
}

fn attach(engine: &Engine, device: &str) {
    let wish = DeviceWish::Registered(device.into());
    engine.instances().attach_device("vm", &wish).unwrap();
}

/// The owners of all VFIO nodes.
fn owners(rig: &Rig) -> Vec<u32> {
    let now = rig.host.snapshot();
    let nodes = now.nodes.values().chain(now.device_nodes.values());
    nodes.map(|node: &NodeAccess| node.uid).collect()
}

#[test]
fn a_machine_with_descriptors_may_open_no_node_also_after_a_hot_plug() {
    let rig = with_descriptors();
    let (engine, _) = rig.open_recovered();
    let created = engine.instances().create(wish("vm", &["gpu"])).unwrap();
    let launched = rig.launcher.launched(created.id).unwrap();
    assert_eq!(launched.access, DeviceAccess::Descriptors);
    assert_eq!(recorded(&engine), Some(DeviceAccess::Descriptors));
    attach(&engine, "nic");
    assert_eq!(owners(&rig).iter().filter(|uid| **uid != 0).count(), 0, "{:?}", owners(&rig));
    // A daemon that takes over, of this version or of a later one, goes on like this.
    drop(engine);
    let (engine, _) = rig.open_recovered();
    attach(&engine, "nvme");
    assert_eq!(owners(&rig).iter().filter(|uid| **uid != 0).count(), 0, "{:?}", owners(&rig));
    engine.instances().delete("vm").unwrap();
    rig.assert_untouched("at the end");
}

#[test]
fn the_first_device_of_a_running_machine_chooses_and_a_start_chooses_again() {
    let rig = with_descriptors();
    let (engine, _) = rig.open_recovered();
    engine.instances().create(wish("vm", &[])).unwrap();
    assert_eq!(recorded(&engine), None);
    attach(&engine, "gpu");
    assert_eq!(recorded(&engine), Some(DeviceAccess::Descriptors));
    engine.instances().stop("vm").unwrap();
    engine.instances().start("vm").unwrap();
    assert_eq!(recorded(&engine), Some(DeviceAccess::Descriptors));
}

#[test]
fn without_iommufd_or_with_an_older_vmm_the_groups_are_granted() {
    let old_vmm = Rig::on({
        let mut hardware = sim::Hardware::from(sim::workstation());
        hardware.inventory.vfio.iommufd = true;
        hardware
    });
    let no_iommufd = Rig::new();
    no_iommufd.launcher.set_takes_descriptors();
    for rig in [old_vmm.stocked(), no_iommufd.stocked()] {
        let (engine, _) = rig.open_recovered();
        let created = engine.instances().create(wish("vm", &["gpu"])).unwrap();
        assert_eq!(recorded(&engine), Some(DeviceAccess::Groups));
        assert_eq!(owners(&rig).into_iter().filter(|uid| *uid == created.uid).count(), 1);
        // What the host can do now does not matter to a machine that runs.
        rig.launcher.set_takes_descriptors();
        attach(&engine, "nic");
        assert_eq!(owners(&rig).into_iter().filter(|uid| *uid == created.uid).count(), 2);
        assert!(rig.host.snapshot().functions[&at(GPU)].driver.is_some());
        engine.instances().delete("vm").unwrap();
        rig.assert_untouched("at the end");
    }
}
