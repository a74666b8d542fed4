//! Assemblies, their obstacles, and the resulting steps.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use model::{
    Address, AsFound, Assembly, ClaimedMember, Class, Code, Fingerprint, Function, GuestSlot, Id,
    Inventory, Mark, Mdev, NodeAccess, Part, PowerControl, Role, Step, VfioSupport,
    VirtualFunctions, plan, restoring,
};
use proptest::prelude::*;
use uuid::Uuid;

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

/// One line of a host: address, ids, class, group, driver ("-" for none).
fn function(line: &str) -> Function {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [address, ids, class, group, driver] = words[..] else { panic!("{line}") };
    let (vendor, device) = ids.split_once(':').unwrap();
    Function {
        vendor: vendor.parse().unwrap(),
        device: device.parse().unwrap(),
        class: class.parse::<Class>().unwrap(),
        driver: (driver != "-").then(|| driver.into()),
        iommu_group: group.parse().ok(),
        ..Function::unknown(at(address))
    }
}

fn host(lines: &[&str]) -> Inventory {
    let mut inventory = Inventory {
        vfio: VfioSupport {
            iommu: true,
            vfio_pci: true,
            type1: true,
            iommufd: false,
            unsafe_noiommu: false,
            virtual_machine: false,
            xen_dom0: false,
            unmapped_interrupts: false,
        },
        ..Inventory::default()
    };
    for line in lines {
        let function = function(line);
        if let Some(group) = function.iommu_group {
            let group = inventory.groups.entry(group).or_default();
            group.members.push(function.address);
        }
        inventory.functions.insert(function.address, function);
    }
    inventory
}

/// A desktop: a GPU card whose audio function is in another group, two drives in one group, a chipset.
fn desktop() -> Inventory {
    host(&[
        "0000:00:01.0 8086:1901 060400 1 pcieport",
        "0000:00:1f.0 8086:a305 060100 9 lpc_ich",
        "0000:00:1f.3 8086:a348 040300 9 snd_hda_intel",
        "0000:01:00.0 10de:2204 030000 1 nouveau",
        "0000:01:00.1 10de:1aef 040300 2 snd_hda_intel",
        "0000:02:00.0 144d:a808 010802 3 nvme",
        "0000:03:00.0 144d:a808 010802 3 nvme",
        "0000:04:00.0 8086:1521 020000 4 igb",
        "0000:04:00.1 8086:1521 020000 5 igb",
        "0000:05:00.0 10de:22a3 068000 6 -",
        "0000:06:00.0 10de:2330 030200 6 nvidia",
        "0000:07:00.0 1234:1111 038000 - -",
    ])
}

fn shown(inventory: &Inventory, head: &str) -> String {
    let assembly = Assembly::of(inventory, at(head)).unwrap();
    let members = assembly.members.iter();
    members
        .map(|m| format!("{} {} ({})", m.address, m.role.as_str(), m.reason))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_gpu_comes_with_its_audio_though_it_is_in_another_group() {
    insta::assert_snapshot!(shown(&desktop(), "0000:01:00.0"), @r"
    0000:00:01.0 bystander (in IOMMU group 1, on pcieport, which does not manage DMA)
    0000:01:00.0 guest (asked for)
    0000:01:00.1 guest (audio function of the same card)
    ");
}

#[test]
fn what_an_integrated_gpu_shares_its_slot_with_stays_with_the_host() {
    let processor = host(&[
        "0000:00:02.0 8086:9a49 030000 0 i915",
        "0000:00:14.0 8086:a0ed 0c0330 3 xhci_hcd",
        "0000:00:1f.3 8086:a0c8 040300 9 snd_hda_intel",
        "0000:04:00.0 1002:1638 030000 10 amdgpu",
        "0000:04:00.1 1002:1637 040300 11 snd_hda_intel",
        "0000:04:00.2 1022:15df 108000 12 ccp",
        "0000:04:00.3 1022:1639 0c0330 13 xhci_hcd",
        "0000:04:00.4 1022:1639 0c0330 14 xhci_hcd",
        "0000:04:00.6 1022:15e3 040300 15 snd_hda_intel",
    ]);
    insta::assert_snapshot!(shown(&processor, "0000:04:00.0"), @r"
    0000:04:00.0 guest (asked for)
    0000:04:00.1 guest (audio function of the same card)
    ");
    insta::assert_snapshot!(shown(&processor, "0000:00:02.0"), @"0000:00:02.0 guest (asked for)");
}

#[test]
fn a_drive_holds_the_other_drive_of_its_group() {
    insta::assert_snapshot!(shown(&desktop(), "0000:02:00.0"), @r"
    0000:02:00.0 guest (asked for)
    0000:03:00.0 held (in IOMMU group 3 with 0000:02:00.0)
    ");
}

#[test]
fn a_port_of_a_nic_has_no_companions() {
    insta::assert_snapshot!(shown(&desktop(), "0000:04:00.0"), @"0000:04:00.0 guest (asked for)");
}

#[test]
fn an_nvswitch_is_held_even_without_a_driver() {
    insta::assert_snapshot!(shown(&desktop(), "0000:06:00.0"), @r"
    0000:05:00.0 held (in IOMMU group 6 with 0000:06:00.0)
    0000:06:00.0 guest (asked for)
    ");
}

#[test]
fn obstacles_are_named() {
    let reasons = |inventory: &Inventory, head: &str| {
        Assembly::of(inventory, at(head))
            .unwrap()
            .obstacles(inventory)
            .into_iter()
            .map(|refusal| refusal.code)
            .collect::<Vec<_>>()
    };
    let desktop = desktop();
    assert_eq!(reasons(&desktop, "0000:01:00.0"), []);
    assert_eq!(reasons(&desktop, "0000:00:01.0"), [Code::NotAssignable]);
    assert_eq!(reasons(&desktop, "0000:00:1f.3"), [Code::NotAssignable]);
    assert_eq!(reasons(&desktop, "0000:07:00.0"), [Code::NoIommu]);
    let mut bare = desktop.clone();
    bare.vfio = VfioSupport::default();
    assert_eq!(reasons(&bare, "0000:01:00.0"), [Code::NoIommu, Code::VfioMissing]);
    let mut parted = desktop;
    parted.functions.get_mut(&at("0000:04:00.0")).unwrap().sriov =
        Some(VirtualFunctions { total: 4, present: vec![at("0000:04:10.0")], autoprobe: None });
    assert_eq!(reasons(&parted, "0000:04:00.0"), [Code::InUse]);
    let function = parted.functions.get_mut(&at("0000:04:00.0")).unwrap();
    function.sriov = None;
    function.mdevs = vec![Mdev { uuid: Uuid::nil(), type_id: None, iommu_group: None }];
    assert_eq!(reasons(&parted, "0000:04:00.0"), [Code::InUse]);
    assert!(Assembly::of(&parted, at("0000:09:00.0")).is_none());
}

#[test]
fn functions_of_one_slot_keep_their_numbers_and_function_0_is_always_there() {
    let place = |addresses: &[&str]| {
        GuestSlot::place(addresses.iter().map(|a| at(a)))
            .functions
            .into_iter()
            .map(|f| (f.source.function().unwrap().to_string(), f.function))
            .collect::<Vec<_>>()
    };
    let both = place(&["0000:01:00.2", "0000:01:00.0"]);
    assert_eq!(both, [("0000:01:00.0".into(), 0), ("0000:01:00.2".into(), 2)]);
    assert_eq!(place(&["0000:01:00.1"]), [("0000:01:00.1".into(), 0)]);
}

fn planned(
    inventory: &Inventory,
    members: &[ClaimedMember],
    nodes: &BTreeMap<u32, NodeAccess>,
    uid: u32,
) -> Vec<Step> {
    planned_as(inventory, members, &found(inventory, members), nodes, uid)
}

fn mark() -> Mark {
    Mark { store: Uuid::nil(), claim: Uuid::nil(), state_dir: "/var/lib/handover".into() }
}

fn planned_as(
    inventory: &Inventory,
    members: &[ClaimedMember],
    found: &[AsFound],
    nodes: &BTreeMap<u32, NodeAccess>,
    uid: u32,
) -> Vec<Step> {
    let vf_settings = BTreeMap::new();
    let mark = mark();
    let given = plan::Given {
        inventory,
        found,
        mark: &mark,
        nodes,
        definitions: &[],
        vf_settings: &vf_settings,
        uid,
        group_nodes: true,
        device_nodes: false,
        reset: false,
    };
    let part = Part {
        head: members[0].address,
        partition: None,
        members: members.to_vec(),
        at_boot: false,
    };
    plan::prepare(&given, &[part]).steps().cloned().collect()
}

fn found(inventory: &Inventory, members: &[ClaimedMember]) -> Vec<AsFound> {
    members
        .iter()
        .map(|member| AsFound {
            address: member.address,
            driver: inventory.function(member.address).unwrap().driver.clone(),
            driver_override: None,
            power: Some(PowerControl::Auto),
            link: None,
            fingerprint: member.fingerprint.clone(),
        })
        .collect()
}

fn claimed(inventory: &Inventory, head: &str) -> Vec<ClaimedMember> {
    let assembly = Assembly::of(inventory, at(head)).unwrap();
    let members = assembly.members.into_iter();
    members
        .map(|member| ClaimedMember {
            address: member.address,
            role: member.role,
            fingerprint: Fingerprint {
                vendor: Id(0x10de),
                device: Id(0x2204),
                subsystem_vendor: None,
                subsystem_device: None,
                serial: None,
                slot_path: member.address.to_string(),
            },
            as_found: None,
        })
        .collect()
}

#[test]
fn the_plan_of_a_gpu_and_the_way_back() {
    let inventory = desktop();
    let members = claimed(&inventory, "0000:01:00.0");
    let steps = planned(&inventory, &members, &BTreeMap::new(), 1_900_000_000);
    let words = |steps: &[Step]| steps.iter().map(Step::describe).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(words(&steps), @r"
    load vfio_iommu_type1
    load vfio_pci
    mark 0000:01:00.0 as claimed
    mark 0000:01:00.1 as claimed
    set power control of 0000:01:00.0 to on
    set driver_override of 0000:01:00.0 to vfio-pci
    unbind 0000:01:00.0 from nouveau
    bind 0000:01:00.0 to vfio-pci
    set power control of 0000:01:00.0 to on
    set power control of 0000:01:00.1 to on
    set driver_override of 0000:01:00.1 to vfio-pci
    unbind 0000:01:00.1 from snd_hda_intel
    bind 0000:01:00.1 to vfio-pci
    set power control of 0000:01:00.1 to on
    let uid 1900000000 open IOMMU group 1
    let uid 1900000000 open IOMMU group 2
    ");
    insta::assert_snapshot!(words(&restoring(&steps)), @r"
    let uid 0 open IOMMU group 2
    let uid 0 open IOMMU group 1
    clear driver_override of 0000:01:00.1
    unbind 0000:01:00.1 from vfio-pci
    return 0000:01:00.1 to snd_hda_intel
    set power control of 0000:01:00.1 to auto
    remove the mark of 0000:01:00.1
    clear driver_override of 0000:01:00.0
    unbind 0000:01:00.0 from vfio-pci
    return 0000:01:00.0 to nouveau
    set power control of 0000:01:00.0 to auto
    remove the mark of 0000:01:00.0
    ");
}

#[test]
fn a_function_that_is_on_vfio_already_stays_there() {
    let mut inventory = desktop();
    inventory.functions.get_mut(&at("0000:04:00.0")).unwrap().driver = Some("vfio-pci".into());
    let members = claimed(&inventory, "0000:04:00.0");
    let node = NodeAccess { uid: 0, gid: 107, mode: 0o660 };
    let nodes = BTreeMap::from([(4, node)]);
    let steps = planned(&inventory, &members, &nodes, 77);
    assert!(
        !steps.iter().any(|s| matches!(s, Step::Unbind { .. } | Step::Bind { .. })),
        "{steps:?}"
    );
    let back = restoring(&steps);
    assert!(
        back.iter().any(|s| matches!(s, Step::GrantGroup { to, .. } if *to == node)),
        "{back:?}"
    );
}

/// A minimal kernel for one function: the result of a list of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    driver: Option<String>,
    driver_override: Option<String>,
    power: PowerControl,
    mark: Option<Mark>,
}

fn apply(mut now: Shown, step: &Step) -> Shown {
    match step {
        Step::SetOverride { to, .. } => now.driver_override = to.clone(),
        Step::Unbind { driver, .. } => {
            assert_eq!(now.driver.as_ref(), Some(driver), "unbind of another driver");
            now.driver = None;
            now.power = PowerControl::On;
        }
        Step::Bind { driver, .. } | Step::Return { driver, .. } => {
            assert_eq!(now.driver, None, "bind while bound");
            let named = now.driver_override.as_ref().is_none_or(|name| name == driver);
            assert!(named, "the override names another driver");
            now.driver = Some(driver.clone());
            now.power = PowerControl::Auto;
        }
        Step::SetPower { to, .. } => now.power = *to,
        Step::Mark { mark, .. } => {
            assert_eq!(now.mark, None, "marked twice");
            now.mark = Some(mark.clone());
        }
        Step::Unmark { mark, .. } => {
            assert_eq!(now.mark.as_ref(), Some(mark), "another's mark is taken away");
            now.mark = None;
        }
        Step::LoadModule { .. } | Step::GrantGroup { .. } => {}
        other => panic!("no step of a hand-over of whole functions: {other:?}"),
    }
    now
}

proptest! {
    /// Undo steps restore the original state exactly, from any point of a plan.
    #[test]
    fn restoring_any_prefix_of_a_plan_gives_back_what_was_found(
        driver in proptest::option::of("(e1000e|nvme|vfio-pci)"),
        own_override: bool,
        power in prop_oneof![Just(PowerControl::Auto), Just(PowerControl::On)],
        cut in 0usize..12,
    ) {
        let mut inventory = desktop();
        inventory.functions.get_mut(&at("0000:04:00.0")).unwrap().driver = driver.clone();
        let members = claimed(&inventory, "0000:04:00.0");
        let mut found = found(&inventory, &members);
        let driver_override = driver.clone().filter(|_| own_override);
        for found in &mut found {
            found.power = Some(power);
            found.driver_override = driver_override.clone();
        }
        let before = Shown { driver, driver_override, power, mark: None };
        let mut steps = planned_as(&inventory, &members, &found, &BTreeMap::new(), 1);
        steps.truncate(cut);
        let there = steps.iter().fold(before.clone(), apply);
        let back = restoring(&steps).iter().fold(there, apply);
        prop_assert_eq!(back, before);
    }

    #[test]
    fn every_taken_member_of_a_group_is_taken_together(groups in proptest::collection::vec(0u32..4, 12)) {
        let mut inventory = desktop();
        for (function, group) in inventory.functions.values_mut().zip(&groups) {
            function.iommu_group = Some(*group);
        }
        inventory.groups.clear();
        for function in inventory.functions.values() {
            let group = function.iommu_group.unwrap();
            inventory.groups.entry(group)
                .or_default()
                .members.push(function.address);
        }
        for head in inventory.functions.keys() {
            let assembly = Assembly::of(&inventory, *head).unwrap();
            let has = |address: Address| assembly.members.iter().any(|m| m.address == address);
            for member in &assembly.members {
                if member.role == Role::Guest {
                    let group = inventory.function(member.address).unwrap().iommu_group.unwrap();
                    prop_assert!(inventory.groups[&group].members.iter().all(|other| has(*other)));
                }
            }
        }
    }
}

#[test]
fn a_whole_host_is_taken_in_assemblies_with_gpus_first() {
    let inventory = desktop();
    let all = Assembly::all(&inventory);
    assert!(all.is_sorted_by_key(|assembly| assembly.head));
    let heads: Vec<String> = all.iter().map(|assembly| assembly.head.to_string()).collect();
    // The audio function, the second drive and the NVSwitch belong to other assemblies.
    assert!(heads.contains(&"0000:01:00.0".into()) && !heads.contains(&"0000:01:00.1".into()));
    assert!(heads.contains(&"0000:02:00.0".into()) && !heads.contains(&"0000:03:00.0".into()));
    assert!(heads.contains(&"0000:06:00.0".into()) && !heads.contains(&"0000:05:00.0".into()));
    let mut taken: Vec<Address> =
        all.iter().flat_map(|assembly| assembly.taken().map(|member| member.address)).collect();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), inventory.functions.len(), "each function is taken");
}
