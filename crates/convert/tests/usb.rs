//! USB devices of a machine are named as such: they have no IOMMU group, and are not assigned.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use convert::devices::{Scene, Wanted, fixed, nodes, vfio, wanted, wants};
use convert::{Instance, Presets, input};
use insta::assert_snapshot;
use model::Inventory;
use model::choose::Want;

fn stick() -> Vec<Wanted> {
    let text = "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {name: u}\nspec: {domain: {memory: {guest: 1Gi}, \
        devices: {hostDevices: [{name: stick, deviceName: kubevirt.io/storage}]}}}\n";
    let input = input::read("vm.yaml", text, true).unwrap();
    wanted(&Instance::of(&input.documents[0], &Presets::default()).unwrap())
}

/// Calls `test` with a host without devices on which these resources are defined.
fn on_host(named: &BTreeMap<String, Want>, test: impl FnOnce(&Scene<'_>)) {
    let (inventory, held, held_mdevs) = (Inventory::default(), BTreeMap::new(), BTreeMap::new());
    test(&Scene {
        inventory: &inventory,
        held: &held,
        held_mdevs: &held_mdevs,
        present: &[],
        named,
    });
}

#[test]
fn usb_devices_are_refused_as_such() {
    on_host(&BTreeMap::new(), refused);
}

fn refused(scene: &Scene<'_>) {
    let wanted = stick();
    let claimed = wants(&wanted, scene).unwrap_err();
    let all = [fixed(&wanted).missing, nodes(&wanted, scene).missing, vfio(&wanted, scene).missing];
    assert!(fixed(&wanted).nodes.is_empty() && fixed(&wanted).notes.is_empty());
    for refusals in all.into_iter().chain([claimed.clone()]) {
        assert_eq!(refusals, claimed);
    }
    let text = format!("{}\n{}", claimed[0].message, claimed[0].remedy);
    assert!(!text.contains("group"), "{text}");
    assert_snapshot!("usb_devices_are_refused_as_such", text);
}

#[test]
fn a_name_of_a_usb_device_can_be_defined() {
    let address = "0000:00:14.0";
    let named = BTreeMap::from([("kubevirt.io/storage".to_owned(), address.parse().unwrap())]);
    on_host(&named, |scene| {
        assert_eq!(wants(&stick(), scene).unwrap()[0].kind.to_string(), address);
    });
}
