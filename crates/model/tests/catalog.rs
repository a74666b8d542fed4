//! The lines of functions in a catalog, the availability of resources, and suggested catalogs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use model::catalog::{Catalog, ClassOrDevice, Line, Pattern, Reason, SurveyState};
use model::{
    Address, Class, Function, Group, Holder, Id, Inventory, VfioSupport, VirtualFunctions,
};
use proptest::prelude::*;

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

fn function(address: &str, ids: (u16, u16), class: u32, group: u32) -> Function {
    Function {
        vendor: Id(ids.0),
        device: Id(ids.1),
        class: Class(class),
        iommu_group: Some(group),
        subsystem_vendor: Some(Id(ids.0)),
        subsystem_device: Some(Id(0x1450)),
        revision: 0xa1,
        ..Function::unknown(at(address))
    }
}

fn host(functions: impl IntoIterator<Item = Function>) -> Inventory {
    let mut inventory = Inventory::default();
    for function in functions {
        let group = function.iommu_group.unwrap();
        let group = inventory.groups.entry(group).or_insert_with(Group::default);
        group.members.push(function.address);
        inventory.functions.insert(function.address, function);
    }
    let (vfio_pci, type1) = (true, true);
    inventory.vfio = VfioSupport { iommu: true, vfio_pci, type1, ..VfioSupport::default() };
    inventory
}

fn device(id: u16) -> Pattern {
    Pattern::of(ClassOrDevice::Device(Id(id)))
}

fn class(class: u32) -> Pattern {
    Pattern::of(ClassOrDevice::Class(Class(class)))
}

/// A catalog of NVIDIA's devices; lines are numbered from 1.
fn catalog(lines: impl IntoIterator<Item = (&'static str, Pattern)>) -> Catalog {
    let line = |(index, (name, pattern)): (usize, (&str, Pattern))| Line {
        number: u32::try_from(index + 1).unwrap(),
        vendor: Id(0x10de),
        vendor_name: "nvidia".into(),
        name: name.into(),
        kind: "gpu".into(),
        pattern,
    };
    Catalog { lines: lines.into_iter().enumerate().map(line).collect() }
}

fn gpus() -> Inventory {
    host([
        function("0000:01:00.0", (0x10de, 0x20b0), 0x03_0200, 1),
        function("0000:02:00.0", (0x10de, 0x20b0), 0x03_0200, 2),
        function("0000:03:00.0", (0x10de, 0x2235), 0x03_0200, 3),
    ])
}

#[test]
fn the_most_exact_line_has_a_function_and_of_equals_the_last() {
    let special = Pattern { addresses: vec![at("0000:02:00.0")], ..class(0x03_0200) };
    let variant = Pattern { subsystem_device: Some(Id(0x1450)), ..class(0x03_0200) };
    let found = |lines: Vec<(&'static str, Pattern)>| {
        let resources = catalog(lines).resources(&gpus());
        resources.into_iter().map(|(name, all)| (name, all.len())).collect::<Vec<_>>()
    };
    let named = |name: &str, count| (format!("gpu.nvidia/{name}"), count);
    assert_eq!(
        found(vec![("a100", device(0x20b0)), ("rest", class(0x03_0200)), ("special", special)]),
        [named("a100", 1), named("rest", 1), named("special", 1)]
    );
    assert_eq!(
        found(vec![("variant", variant), ("a100", device(0x20b0))]),
        [named("a100", 0), named("variant", 3)]
    );
    assert_eq!(
        found(vec![("first", device(0x20b0)), ("last", device(0x20b0))]),
        [named("first", 0), named("last", 2)]
    );
}

#[test]
fn virtual_functions_count_and_the_whole_they_are_of_does_not() {
    let mut inventory = gpus();
    let (parent, vf) = (at("0000:01:00.0"), at("0000:01:00.4"));
    let mut part = function("0000:01:00.4", (0x10de, 0x20b0), 0x03_0200, 9);
    part.physical_function = Some(parent);
    inventory.functions.insert(vf, part);
    inventory.groups.insert(9, Group { members: vec![vf], ..Group::default() });
    let sriov = VirtualFunctions { total: 16, present: vec![vf], autoprobe: None };
    inventory.functions.get_mut(&parent).unwrap().sriov = Some(sriov);
    let resources = catalog([("a100", device(0x20b0))]).resources(&inventory);
    assert_eq!(resources["gpu.nvidia/a100"], [vf, at("0000:02:00.0")]);

    let whole = Pattern { addresses: vec![parent], ..device(0x20b0) };
    let survey = catalog([("whole", whole)]).survey(&inventory, &[], &model::OwnState::default());
    assert_eq!(survey.unmatched[0].reason, Reason::HasVirtualFunctions);
    assert_eq!(survey.unmatched[0].instead[0].address, vf);
}

#[test]
fn devices_in_use_or_in_a_shared_group_are_unavailable() {
    let mut inventory = gpus();
    let shared = inventory.functions.get_mut(&at("0000:03:00.0")).unwrap();
    shared.iommu_group = Some(2);
    inventory.groups.remove(&3);
    inventory.groups.get_mut(&2).unwrap().members.push(at("0000:03:00.0"));
    let holder = Holder {
        address: at("0000:01:00.0"),
        kind: model::HolderKind::Process,
        pid: Some(4711),
        started: None,
        program: None,
        user: "python3 (pid 4711)".into(),
        by: "/dev/nvidia0".into(),
        mdev: None,
        interface: None,
    };
    let survey = catalog([("any", class(0x03_0200))]).survey(
        &inventory,
        &[holder],
        &model::OwnState::default(),
    );
    let resource = &survey.resources[0];
    assert_eq!((resource.count, resource.available), (3, 1));
    let states: Vec<SurveyState> = resource.devices.iter().map(|found| found.state).collect();
    let with = SurveyState::With { address: at("0000:02:00.0") };
    assert_eq!(states, [SurveyState::InUse, SurveyState::Free, with]);
    assert_eq!(resource.devices[0].used_by, ["python3 (pid 4711) by /dev/nvidia0"]);

    inventory.vfio.iommu = false;
    let survey =
        catalog([("any", class(0x03_0200))]).survey(&inventory, &[], &model::OwnState::default());
    assert_eq!((survey.resources[0].count, survey.resources[0].available), (3, 0));
}

#[test]
fn a_vfio_driver_alone_is_no_use() {
    let mut inventory = gpus();
    inventory.functions.get_mut(&at("0000:01:00.0")).unwrap().driver = Some("vfio-pci".into());
    let survey =
        catalog([("any", class(0x03_0200))]).survey(&inventory, &[], &model::OwnState::default());
    assert_eq!(survey.resources[0].available, 3);
}

#[test]
fn suggested_names_are_plain_and_unique() {
    let mut inventory = gpus();
    let names = ["GA100 [A100 SXM4 40GB]", "GA100 [A100 SXM4 40GB]", "Ünï/cödé  \u{1b}[31m"];
    for (function, name) in inventory.functions.values_mut().zip(names) {
        function.device_name = Some(name.into());
    }
    let audio = function("0000:03:00.1", (0x10de, 0x1aef), 0x04_0300, 3);
    inventory.functions.insert(audio.address, audio);
    let mut other = function("0000:04:00.0", (0x10de, 0x20b2), 0x03_0200, 4);
    other.device_name = Some("GA100 [A100 SXM4 40GB]".into());
    inventory.functions.insert(other.address, other);
    let catalog = Catalog::suggested(&inventory);
    let names: Vec<String> = catalog.lines.iter().map(Line::resource).collect();
    assert_eq!(
        names,
        ["gpu.nvidia/a100-sxm4-40gb", "gpu.nvidia/n-c-d-31m", "gpu.nvidia/a100-sxm4-40gb-20b2"]
    );
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let id = prop_oneof![
        (0u16..4).prop_map(|id| ClassOrDevice::Device(Id(id))),
        (0u32..3).prop_map(|id| ClassOrDevice::Class(Class(0x03_0000 + id))),
    ];
    let places = || {
        prop::collection::vec((0u8..6).prop_map(|bus| Address::new(0, bus, 0, 0).unwrap()), 0..3)
    };
    (id, prop::option::of(0u8..2), places(), places()).prop_map(
        |(id, revision, addresses, exclude)| Pattern {
            revision,
            addresses,
            exclude,
            ..Pattern::of(id)
        },
    )
}

fn any_host() -> impl Strategy<Value = Inventory> {
    prop::collection::vec((0u16..4, 0u32..3, 0u8..2, 0u32..4), 0..6).prop_map(|cards| {
        host(cards.into_iter().enumerate().map(|(bus, (device, class, revision, group))| {
            Function {
                revision,
                ..function(&format!("0000:0{bus}:00.0"), (0x10de, device), 0x03_0000 + class, group)
            }
        }))
    })
}

proptest! {
    /// Each function belongs to at most one resource, and to one exactly if a line fits it; each line has a function or
    /// a reason.
    #[test]
    fn nothing_is_counted_twice_or_forgotten(
        patterns in prop::collection::vec(any_pattern(), 0..6),
        inventory in any_host(),
    ) {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let catalog = catalog(NAMES.into_iter().zip(patterns));
        let resources = catalog.resources(&inventory);
        let all: Vec<Address> = resources.values().flatten().copied().collect();
        let unique: BTreeSet<Address> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), unique.len());
        for function in inventory.functions.values() {
            let fits = catalog.lines.iter().any(|line| line.fits(function));
            prop_assert_eq!(fits, unique.contains(&function.address));
        }
        let survey = catalog.survey(&inventory, &[], &model::OwnState::default());
        for resource in &survey.resources {
            prop_assert_eq!(resource.count, resources[&resource.name].len());
            prop_assert!(resource.available <= resource.count);
        }
        let empty = resources.values().filter(|found| found.is_empty()).count();
        prop_assert_eq!(survey.unmatched.len(), empty);
        for unmatched in &survey.unmatched {
            prop_assert!(!unmatched.remedy().is_empty() && !unmatched.reason.to_string().is_empty());
        }
        // No two free devices share a group: they could get two owners.
        let free: Vec<u32> = survey
            .resources
            .iter()
            .flat_map(|resource| &resource.devices)
            .filter(|found| found.state == SurveyState::Free)
            .map(|found| inventory.function(found.address).unwrap().iommu_group.unwrap())
            .collect();
        prop_assert_eq!(free.iter().collect::<BTreeSet<_>>().len(), free.len());
    }
}
