//! The changes reported for a function.
#![allow(clippy::unwrap_used)]

use model::{Change, Function, Mdev, Nodes, VirtualFunctions};
use proptest::prelude::*;

fn function() -> Function {
    let mut function = Function::unknown("0000:01:00.0".parse().unwrap());
    function.vendor = "10de".parse().unwrap();
    function.device = "20b0".parse().unwrap();
    function.iommu_group = Some(12);
    function
}

fn words(before: Option<&Function>, after: Option<&Function>) -> Vec<String> {
    Change::between(before, after).iter().map(|change| change.kind.to_string()).collect()
}

#[test]
fn each_change_has_its_words() {
    let bare = function();
    let mut native = function();
    native.driver = Some("nvidia".into());
    native.nodes = Nodes { drm: vec!["card0".into()], nvidia_minor: Some(3), ..Nodes::default() };
    let mut given = function();
    given.driver = Some("vfio-pci".into());
    given.nodes = Nodes { vfio_group: Some("/dev/vfio/12".into()), ..Nodes::default() };

    assert_eq!(words(None, Some(&bare)), ["appeared"]);
    assert_eq!(
        words(Some(&bare), Some(&native)),
        ["bound to nvidia", "display node card0 appeared", "node /dev/nvidia3 appeared"]
    );
    assert_eq!(
        words(Some(&native), Some(&given)),
        [
            "display node card0 gone",
            "node /dev/nvidia3 gone",
            "driver nvidia -> vfio-pci",
            "VFIO group /dev/vfio/12 appeared"
        ]
    );
    assert_eq!(
        words(Some(&given), Some(&bare)),
        ["VFIO group /dev/vfio/12 gone", "driver vfio-pci -> none"]
    );
    assert_eq!(words(Some(&given), None), ["gone"]);

    let mut elsewhere = function();
    elsewhere.iommu_group = None;
    elsewhere.sriov =
        Some(VirtualFunctions { total: 7, present: vec![elsewhere.address], autoprobe: None });
    let uuid = uuid::uuid!("6f5ab6c4-6cb2-4b1a-b5b4-9c2cf5b1b2f0");
    let mdev = |type_id| Mdev { uuid, type_id, iommu_group: None };
    elsewhere.mdevs = vec![mdev(Some("nvidia-474".into()))];
    assert_eq!(
        words(Some(&bare), Some(&elsewhere)),
        [
            "IOMMU group 12 -> none",
            "mediated device 6f5ab6c4-6cb2-4b1a-b5b4-9c2cf5b1b2f0 of type nvidia-474 appeared",
            "virtual functions 0 -> 1"
        ]
    );
    assert_eq!(words(Some(&elsewhere), Some(&bare)).len(), 3);
}

#[test]
fn a_virtual_function_is_reported_as_one_at_once_or_when_it_is_linked() {
    let bare = function();
    let mut linked = function();
    linked.physical_function = Some("0000:00:02.0".parse().unwrap());
    assert_eq!(words(None, Some(&linked)), ["appeared, a virtual function of 0000:00:02.0"]);
    assert_eq!(words(Some(&bare), Some(&linked)), ["is a virtual function of 0000:00:02.0"]);
    // It loses the link before it disappears.
    assert_eq!(words(Some(&linked), Some(&bare)), [""; 0]);
}

#[test]
fn another_device_at_the_same_address_is_reported_as_another() {
    let mut other = function();
    other.device = "2684".parse().unwrap();
    other.driver = Some("nouveau".into());
    let told = Change::between(Some(&function()), Some(&other));
    let told: Vec<String> = told.iter().map(|c| format!("{}: {}", c.name, c.kind)).collect();
    assert_eq!(told, ["10de:20b0: gone", "10de:2684: appeared", "10de:2684: bound to nouveau"]);
}

#[test]
fn a_change_is_one_flat_object_in_json() {
    let mut bound = function();
    bound.driver = Some("vfio-pci".into());
    let change = Change::between(Some(&function()), Some(&bound)).remove(0);
    let json = serde_json::to_value(&change).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "address": "0000:01:00.0", "name": "10de:20b0",
            "change": "driver", "before": null, "after": "vfio-pci"
        })
    );
    assert_eq!(serde_json::from_value::<Change>(json).unwrap(), change);
}

fn any_function() -> impl Strategy<Value = Function> {
    let driver = proptest::option::of("[a-c]");
    let names = || proptest::collection::btree_set("[a-c]", 0..3);
    let group = proptest::option::of(0u32..3);
    (driver, names(), names(), group).prop_map(|(driver, interfaces, drm, group)| {
        let nodes = Nodes {
            interfaces: interfaces.into_iter().collect(),
            drm: drm.into_iter().collect(),
            ..Nodes::default()
        };
        Function { driver, iommu_group: group, nodes, ..function() }
    })
}

proptest! {
    #[test]
    fn what_is_the_same_is_not_told_and_what_is_told_can_be_taken_back(one in any_function(), other in any_function()) {
        prop_assert!(Change::between(Some(&one), Some(&one)).is_empty());
        let there = Change::between(Some(&one), Some(&other));
        let back = Change::between(Some(&other), Some(&one));
        prop_assert_eq!(there.len(), back.len());
        prop_assert_eq!(there.is_empty(), one == other);
    }
}
