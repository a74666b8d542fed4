//! Machines with every kind of volume, network and device: the whole pod, and its explanation.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use convert::devices::{Given, Scene, Section, Way, choose, fixed, given, wanted, wants};
use convert::pod::{self, ConsoleProxy, Settings};
use convert::print::{self, Format};
use convert::{Instance, Presets, explain, input};
use insta::assert_snapshot;
use model::choose::WantKind;
use model::{Function, Inventory, Mdev};
use uuid::Uuid;

fn instance(text: &str) -> Instance {
    let input = input::read("vm.yaml", text, true).unwrap();
    Instance::of(&input.documents[0], &Presets::default()).unwrap()
}

/// A machine with these devices and networks.
fn machine(devices: &str, networks: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {{name: vm, namespace: lab}}\nspec:\n  \
         domain: {{memory: {{guest: 2Gi}}, devices: {{{devices}}}}}\n  networks: {networks}\n"
    )
}

#[test]
fn something_of_everything() {
    let mut instance = instance(include_str!("corpus/everything.yaml"));
    let proxy = ConsoleProxy { image: "example.org/proxy:1".into(), port: 9000 };
    let settings = Settings {
        passt: false,
        launcher_image: "example.org/launcher:2".into(),
        console_proxy: Some(proxy),
        ..Settings::default()
    };
    let devices = fixed(&wanted(&instance));
    let objects = pod::objects(&mut instance, &settings, &devices);
    assert_snapshot!(print::documents(&objects, Format::Yaml));
    assert_snapshot!(explain(&instance, &settings, &devices));
}

const MIXED: &str = "gpus: [{name: a, deviceName: amd.com/gpu}, {name: n, deviceName: nvidia.com/GRID_T4-1Q},
    {name: i, deviceName: intel.com/flex170}], hostDevices: [{name: d, deviceName: example.com/nvme}],
    interfaces: [{name: default, masquerade: {}}, {name: fast, sriov: {}}]";
const NETWORKS: &str = "[{name: default, pod: {}}, {name: fast, multus: {networkName: nets/fast}}]";

#[test]
fn mixed_vendors_by_their_usual_names() {
    let mut instance = instance(&machine(MIXED, NETWORKS));
    let devices = fixed(&wanted(&instance));
    let settings = Settings::default();
    let objects = pod::objects(&mut instance, &settings, &devices);
    assert_eq!(objects.len(), 1);
    let notes = [instance.notes.clone(), devices.notes.clone()].concat().join("\n");
    assert_snapshot!(format!("{}{notes}", explain(&instance, &settings, &devices)));
}

/// The devices of a claim.
fn claimed(section: Section, name: &str) -> Given {
    let (id, group) = match (section, name) {
        (_, "n") => ("4b20d080-1b54-4048-85b3-a6a62d165c01", 21),
        (Section::Interface, _) => ("0000:81:02.3", 44),
        (_, "a") => ("0000:03:00.0", 12),
        (_, "i") => ("0000:04:00.0", 13),
        _ => ("0000:05:00.0", 14),
    };
    Given {
        id: id.into(),
        mediated: name == "n",
        groups: vec![format!("/dev/vfio/{group}")],
        devices: Vec::new(),
        shown: id.into(),
    }
}

#[test]
fn by_vfio_with_a_vgpu_and_a_virtual_function() {
    let mut instance = instance(&machine(MIXED, NETWORKS));
    let all = wanted(&instance);
    let all: Vec<_> =
        all.into_iter().map(|one| (one.clone(), claimed(one.section, &one.name))).collect();
    let devices = given(&all);
    let objects = pod::objects(&mut instance, &Settings::default(), &devices);
    assert_snapshot!(print::documents(&objects, Format::Yaml));
}

#[test]
fn devices_that_go_by_their_own_nodes() {
    let instance = instance(&machine("gpus: [{name: a, deviceName: nvidia.com/GPU}]", "[]"));
    let one = wanted(&instance).remove(0);
    let devices = vec!["/dev/vfio/devices/vfio3".to_owned()];
    let own = Given { groups: Vec::new(), devices, ..claimed(Section::Gpu, "a") };
    let paths: Vec<String> = given(&[(one, own)]).nodes.into_iter().map(|node| node.path).collect();
    assert_eq!(paths, ["/dev/iommu", "/dev/vfio/devices/vfio3"]);
}

#[test]
fn what_a_claim_is_asked_for() {
    let instance = instance(&machine(
        "gpus: [{name: n, deviceName: nvidia.com/GRID_T4-1Q}, {name: g, deviceName: nvidia.com/GPU}],
         hostDevices: [{name: d, deviceName: example.com/nvme}], interfaces: [{name: fast, sriov: {}}]",
        "[{name: fast, multus: {networkName: nets/fast}}]",
    ));
    let named = BTreeMap::from([
        ("example.com/nvme".to_owned(), "0000:05:00.0".parse().unwrap()),
        ("nets/fast".to_owned(), "vf@0000:81:00.0,vlan=7".parse().unwrap()),
    ]);
    let (inventory, held) = (Inventory::default(), BTreeMap::new());
    let scene = Scene {
        inventory: &inventory,
        held: &held,
        held_mdevs: &BTreeMap::new(),
        present: &[],
        named: &named,
    };
    let wants = wants(&wanted(&instance), &scene).unwrap();
    let words: Vec<String> = wants.iter().map(|want| want.kind.to_string()).collect();
    let expected = ["GRID T4-1Q", "gpu", "0000:05:00.0", "virtual function of 0000:81:00.0"];
    assert_eq!(words, expected);
    assert!(matches!(&wants[1].kind, WantKind::Any(filter) if filter.vendor.is_some()));
}

#[test]
fn one_mediated_device_is_given_once() {
    let gpus = "gpus: [{name: a, deviceName: nvidia.com/GRID_T4-1Q}, {name: b, deviceName: nvidia.com/GRID_T4-1Q}]";
    let machine = wanted(&instance(&machine(gpus, "[]")));
    let uuids = [1, 2, 3].map(Uuid::from_u128);
    let mut parent = Function::unknown("0000:03:00.0".parse().unwrap());
    let type_id = "GRID T4-1Q".to_owned();
    parent.mdevs = uuids
        .map(|uuid| Mdev { uuid, type_id: Some(type_id.clone()), iommu_group: Some(40) })
        .to_vec();
    let inventory =
        Inventory { functions: BTreeMap::from([(parent.address, parent)]), ..Inventory::default() };
    let held_mdevs = BTreeMap::from([(uuids[0], "the claim of job/one".to_owned())]);
    let scene = Scene {
        inventory: &inventory,
        held: &BTreeMap::new(),
        held_mdevs: &held_mdevs,
        present: &[],
        named: &BTreeMap::new(),
    };
    let (_, given) = choose(&[&machine, &machine[..1]], &scene, Some(Way::Vfio));
    let told = format!("{},{}", uuids[1], uuids[2]);
    assert_eq!(given[0].env, [("MDEV_PCI_RESOURCE_NVIDIA_COM_GRID_T4-1Q".to_owned(), told)]);
    assert_eq!((given[1].env.len(), given[1].missing.len()), (0, 1), "none is left for another");
}
