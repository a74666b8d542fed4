//! Devices of a made-up host: CDI specs, and claims for a machine.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use convert::cdi::{self, Host, Spec};
use convert::devices::{Resource, Scene, Section, Wanted, wants};
use insta::assert_snapshot;
use model::choose::{Want, WantKind};
use model::{Class, Code, Detail, Function, Group, Id, Inventory, Mdev, MigInstance};

fn function(address: &str, vendor: u16, device: u16, driver: &str) -> Function {
    let mut function = Function::unknown(address.parse().unwrap());
    (function.vendor, function.device) = (Id(vendor), Id(device));
    function.class = Class(0x03_0000);
    function.driver = Some(driver.to_owned());
    function
}

fn instance(gpu_instance: u32, compute_instance: Option<u32>, capability: u32) -> MigInstance {
    MigInstance { gpu_instance, compute_instance, capability }
}

/// An NVIDIA GPU in MIG mode, one of AMD's, a card on vfio with its audio function, one on vfio without groups, a NIC, and the
/// parent of a mediated device.
fn host() -> Inventory {
    let mut mig = function("0000:41:00.0", 0x10de, 0x20b0, "nvidia");
    mig.nodes.nvidia_minor = Some(1);
    mig.detail = Some(Box::new(Detail {
        mig: vec![
            instance(1, None, 12),
            instance(1, Some(0), 13),
            instance(2, None, 21),
            instance(2, Some(0), 22),
        ],
        ..Detail::default()
    }));
    let mut amd = function("0000:43:00.0", 0x1002, 0x744c, "amdgpu");
    amd.nodes.drm = vec!["card3".into(), "renderD131".into()];
    let mut card = function("0000:02:00.0", 0x10de, 0x20f1, "vfio-pci");
    let mut audio = function("0000:02:00.1", 0x10de, 0x10ef, "vfio-pci");
    audio.class = Class(0x04_0300);
    for (one, group) in [(&mut card, 12), (&mut audio, 13)] {
        one.iommu_group = Some(group);
        one.nodes.vfio_group = Some(format!("/dev/vfio/{group}"));
    }
    let mut cdev = function("0000:05:00.0", 0x10de, 0x1b38, "vfio-pci");
    cdev.nodes.vfio_device = Some("/dev/vfio/devices/vfio0".into());
    let mut nic = function("0000:03:00.0", 0x8086, 0x10fb, "ixgbe");
    nic.class = Class(0x02_0000);
    let mut parent = function("0000:06:00.0", 0x8086, 0x3e92, "i915");
    parent.mdevs = vec![Mdev {
        uuid: "a297db4a-f4c2-11e6-90f6-d3b88d6c9525".parse().unwrap(),
        type_id: None,
        iommu_group: Some(20),
    }];
    let mut inventory = Inventory::default();
    for number in [12, 13] {
        inventory.groups.insert(number, Group::default());
    }
    for one in [mig, amd, card, audio, cdev, nic, parent] {
        if let Some(group) = one.iommu_group {
            inventory.groups.get_mut(&group).unwrap().members.push(one.address);
        }
        inventory.functions.insert(one.address, one);
    }
    inventory
}

fn shown(specs: &[Spec]) -> String {
    let one = |spec: &Spec| {
        let device = &spec.devices[0];
        let env = device.container_edits.env.join(" ");
        let paths: Vec<&str> = spec.paths().collect();
        let name = spec.names().next().unwrap();
        format!("{name} ({}) {env}\n  {}\n", spec.cdi_version, paths.join("\n  "))
    };
    specs.iter().map(one).collect()
}

#[test]
fn devices_that_a_container_could_use() {
    let inventory = host();
    let present = ["/dev/kfd".to_owned()];
    assert_snapshot!(shown(&cdi::all(&Host { inventory: &inventory, present: &present })));
}

#[test]
fn unusable_devices_say_why() {
    let inventory = host();
    let host = Host { inventory: &inventory, present: &[] };
    let nic = cdi::device(&host, "0000:03:00.0".parse().unwrap(), "nic").unwrap_err();
    assert_eq!(nic.code, Code::InvalidState);
    assert!(nic.message.contains("is on ixgbe"), "{nic:?}");
    assert!(nic.remedy.contains("handover claim 0000:03:00.0"), "{nic:?}");
    let none = cdi::device(&host, "0000:77:00.0".parse().unwrap(), "x").unwrap_err();
    assert_eq!(none.code, Code::DeviceNotFound);
    assert_eq!(
        cdi::instance(&host, "0000:41:00.0:gi7:ci0").unwrap_err().code,
        Code::DeviceNotFound
    );
    assert_eq!(cdi::mediated(&host, uuid::Uuid::nil()).unwrap_err().code, Code::DeviceNotFound);
}

#[test]
fn a_model_of_several_ids_is_claimed_by_all_of_them() {
    let mut inventory = host();
    let (sxm, pcie) = ("0000:41:00.0".parse().unwrap(), "0000:02:00.0".parse().unwrap());
    let mut name = |address, name: &str| {
        inventory.functions.get_mut(&address).unwrap().device_name = Some(name.to_owned());
    };
    name(sxm, "GA100 [A100 SXM4 40GB]");
    name(pcie, "GA100 [A100 PCIe 40GB]");
    let (held, held_mdevs, named) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let scene = Scene {
        inventory: &inventory,
        held: &held,
        held_mdevs: &held_mdevs,
        present: &[],
        named: &named,
    };
    let want = |resource: &str| {
        let resource = Resource::new(resource);
        let wanted = Wanted { section: Section::Gpu, name: "gpu0".into(), resource };
        wants(&[wanted], &scene).unwrap().remove(0)
    };
    let Want { kind: WantKind::Any(both), .. } = want("nvidia.com/A100") else { unreachable!() };
    assert!([sxm, pcie].iter().all(|one| both.fits(&inventory.functions[one])), "{both:?}");
    let Want { kind: WantKind::Any(one), .. } = want("nvidia.com/A100_SXM4") else {
        unreachable!()
    };
    assert!(one.fits(&inventory.functions[&sxm]) && !one.fits(&inventory.functions[&pcie]));
}
