//! Choosing on small hosts.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use model::choose::{ExistingClaim, Options, Scene, Want, choose, needs_detail};
use model::{
    Address, Claim, ClaimState, ClaimedMember, Class, Code, Detail, Function, Group, Id, Inventory,
    Mdev, MdevDefinition, MdevType, Mechanism, Part, Refusal, VfioSupport, VirtualFunctions,
};
use proptest::prelude::*;
use uuid::Uuid;

fn at(bus: u8) -> Address {
    Address::new(0, bus, 0, 0).unwrap()
}

/// GPUs, each in its own group, on these NUMA nodes.
fn gpus(nodes: &[u32]) -> Inventory {
    let mut inventory = Inventory::default();
    for (node, bus) in nodes.iter().zip(1u8..) {
        let group = u32::from(bus);
        let function = Function {
            vendor: Id(0x10de),
            device: Id(0x20b0),
            class: Class(0x03_0200),
            driver: Some("nvidia".into()),
            iommu_group: Some(group),
            numa_node: Some(*node),
            ..Function::unknown(at(bus))
        };
        inventory.functions.insert(at(bus), function);
        inventory.groups.insert(group, Group { members: vec![at(bus)], ..Group::default() });
    }
    inventory.vfio = VfioSupport {
        iommu: true,
        vfio_pci: true,
        type1: true,
        iommufd: false,
        unsafe_noiommu: false,
        xen_dom0: false,
        virtual_machine: false,
        unmapped_interrupts: false,
    };
    inventory
}

struct Given {
    inventory: Inventory,
    barred: BTreeMap<Address, Refusal>,
    definitions: Vec<MdevDefinition>,
    resources: BTreeMap<String, Vec<Address>>,
}

impl Given {
    fn new(inventory: Inventory) -> Self {
        let resources = BTreeMap::new();
        Self { inventory, barred: BTreeMap::new(), definitions: Vec::new(), resources }
    }

    fn bar(&mut self, bus: u8) {
        let why = Refusal::new(Code::InUse, format!("{} is used", at(bus)), "stop it");
        self.barred.insert(at(bus), why);
    }

    fn choose(&self, wants: &[&str]) -> Result<Vec<Address>, Refusal> {
        let wants: Vec<Want> = wants.iter().map(|want| want.parse().unwrap()).collect();
        let scene = Scene {
            inventory: &self.inventory,
            claims: &[],
            barred: &self.barred,
            definitions: &self.definitions,
            resources: &self.resources,
            names: &BTreeMap::new(),
            id: Uuid::from_u128(0xc1a1_0000_0000_4000_8000_0000_0000_0000),
            options: Options::default(),
        };
        choose(&scene, &wants).map(|all| all.into_iter().map(|chosen| chosen.head).collect())
    }
}

#[test]
fn several_are_taken_from_the_smallest_node_that_has_enough() {
    let given = Given::new(gpus(&[0, 0, 0, 0, 1, 1]));
    assert_eq!(given.choose(&["2xgpu"]).unwrap(), [at(5), at(6)]);
    assert_eq!(given.choose(&["3xgpu"]).unwrap(), [at(1), at(2), at(3)]);
    assert_eq!(given.choose(&["5xgpu"]).unwrap().len(), 5, "no node has so many");
    assert_eq!(given.choose(&["gpu,node=0"]).unwrap(), [at(1)]);
}

#[test]
fn a_resource_has_its_devices_whatever_they_are() {
    let mut inventory = gpus(&[0, 0, 1, 1]);
    inventory.functions.get_mut(&at(3)).unwrap().device = Id(0x2235);
    // The second one has a virtual function.
    let vf = Address::new(0, 2, 0, 4).unwrap();
    let part = Function {
        physical_function: Some(at(2)),
        iommu_group: Some(9),
        ..inventory.functions[&at(2)].clone()
    };
    inventory.functions.insert(vf, Function { address: vf, driver: None, ..part });
    inventory.groups.insert(9, Group { members: vec![vf], ..Group::default() });
    let sriov = VirtualFunctions { total: 16, present: vec![vf], autoprobe: None };
    inventory.functions.get_mut(&at(2)).unwrap().sriov = Some(sriov);
    let mut given = Given::new(inventory);
    given.resources.insert("gpu.nvidia/a100".into(), vec![at(1), vf, at(3)]);
    assert_eq!(given.choose(&["3xgpu.nvidia/a100"]).unwrap(), [at(1), vf, at(3)]);
    assert_eq!(given.choose(&["gpu.nvidia/a100,node=1"]).unwrap(), [at(3)]);
    let refusal = given.choose(&["4xgpu.nvidia/a100"]).unwrap_err();
    assert_eq!(refusal.message, "gpu.nvidia/a100: 3 of 4 available");
    given.bar(1);
    let refusal = given.choose(&["3xgpu.nvidia/a100"]).unwrap_err();
    assert_eq!(refusal.message, "gpu.nvidia/a100: 2 of 3 available (0000:01:00.0 is used)");
    assert_eq!(refusal.code, Code::InsufficientResources);
}

#[test]
fn the_obstacle_is_named() {
    let mut given = Given::new(gpus(&[0, 0]));
    given.bar(1);
    assert_eq!(given.choose(&["gpu"]).unwrap(), [at(2)]);
    let refusal = given.choose(&["2xgpu"]).unwrap_err();
    assert_eq!(refusal.message, "gpu: 1 of 2 available (0000:01:00.0 is used)");
    assert_eq!(refusal.remedy, "request at most 1, or free another one: stop it");
    assert_eq!(given.choose(&["0000:01:00.0"]).unwrap_err().code, Code::InUse);
    assert_eq!(given.choose(&["nic"]).unwrap_err().message, "nic: this host has none");
    assert_eq!(given.choose(&["0000:01:00.0", "0000:01:00.0"]).unwrap_err().code, Code::InUse);
    let refusal = given.choose(&["2xvf,mac=52:54:00:00:00:01"]).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidRequest);
}

#[test]
fn devices_that_cannot_be_handed_over_are_not_missing_from_the_host() {
    let mut inventory = gpus(&[0, 0]);
    inventory.vfio.iommu = false;
    for want in ["gpu", "9xgpu"] {
        let refusal = Given::new(inventory.clone()).choose(&[want]).unwrap_err();
        assert_eq!(refusal.code, Code::NoIommu);
        assert!(refusal.message.contains("no active IOMMU"), "{refusal}");
        assert!(refusal.remedy.contains("firmware"), "{refusal}");
    }
    let mut inventory = gpus(&[0, 0]);
    inventory.functions.get_mut(&at(2)).unwrap().physical_function = Some(at(1));
    inventory.functions.get_mut(&at(1)).unwrap().class = "020000".parse().unwrap();
    let refusal = Given::new(inventory).choose(&["gpu"]).unwrap_err();
    assert!(refusal.remedy.contains("`vf@0000:01:00.0`"), "{refusal}");
    let mut given = Given::new(gpus(&[0, 0]));
    given.bar(1);
    let refusal = given.choose(&["9xgpu"]).unwrap_err();
    assert_eq!(refusal.remedy, "request at most 1, or free another one: stop it");
    given.bar(2);
    let refusal = given.choose(&["9xgpu"]).unwrap_err();
    assert_eq!(refusal.remedy, "this host has 2 in all; stop it");
    let all = Given::new(gpus(&[0, 0])).choose(&["9xgpu"]).unwrap_err();
    assert_eq!(all.remedy, "request at most 2: this host has no more");
}

#[test]
fn a_device_in_the_same_request_is_not_missing_from_the_host() {
    let given = Given::new(gpus(&[0]));
    let refusal = given.choose(&["0000:01:00.0", "gpu"]).unwrap_err();
    assert_eq!(refusal.message, "gpu: none is free (0000:01:00.0 is in this request already)");
    assert!(refusal.remedy.contains("fewer"), "{}", refusal.remedy);
    let refusal = given.choose(&["gpu", "gpu"]).unwrap_err();
    assert!(refusal.message.contains("already in this request"), "{refusal}");
    let refusal = given.choose(&["0000:01:00.0", "0000:01:00.0"]).unwrap_err();
    assert_eq!(refusal.message, "the request names 0000:01:00.0 twice");
}

#[test]
fn a_claim_is_in_the_way_of_the_requested_device() {
    let mut inventory = gpus(&[0, 0, 0]);
    // The third GPU shares the group of the second.
    inventory.functions.get_mut(&at(3)).unwrap().iommu_group = Some(2);
    inventory.groups.get_mut(&2).unwrap().members.push(at(3));
    let part = |bus| Part {
        head: at(bus),
        partition: None,
        members: vec![ClaimedMember::unknown(at(bus))],
        at_boot: false,
    };
    let claim = Claim {
        id: Uuid::nil(),
        owner: "job/1".parse().unwrap(),
        reason: None,
        expires: None,
        parts: vec![part(1), part(3)],
        state: ClaimState::Reserved,
        boot_id: None,
    };
    let existing = ExistingClaim {
        claim,
        owner: "job/1".into(),
        why: Refusal::new(Code::InUse, "is claimed by job/1", "wait"),
    };
    let refusal = |want: &str| {
        let scene = Scene {
            inventory: &inventory,
            claims: std::slice::from_ref(&existing),
            barred: &BTreeMap::new(),
            definitions: &[],
            resources: &BTreeMap::new(),
            names: &BTreeMap::new(),
            id: Uuid::nil(),
            options: Options::default(),
        };
        choose(&scene, &[want.parse().unwrap()]).unwrap_err().message
    };
    assert_eq!(refusal("0000:01:00.0"), "0000:01:00.0 is claimed by job/1");
    assert_eq!(refusal("0000:03:00.0"), "0000:03:00.0 is claimed by job/1");
    assert_eq!(
        refusal("0000:02:00.0"),
        "0000:02:00.0 must be handed over with 0000:03:00.0, which is claimed by job/1"
    );
}

#[test]
fn a_member_in_use_is_named_with_the_requested_device() {
    let mut inventory = gpus(&[0, 0]);
    inventory.functions.get_mut(&at(2)).unwrap().iommu_group = Some(1);
    inventory.groups.get_mut(&1).unwrap().members.push(at(2));
    let mut given = Given::new(inventory);
    given.bar(2);
    let refusal = given.choose(&["0000:01:00.0"]).unwrap_err();
    assert_eq!(
        refusal.message,
        "0000:01:00.0 must be handed over with 0000:02:00.0, but 0000:02:00.0 is used"
    );
}

/// A GPU that offers `left` more mediated devices.
fn divided(left: u32) -> Inventory {
    let mut inventory = gpus(&[0]);
    let function = inventory.functions.get_mut(&at(1)).unwrap();
    let kind = MdevType {
        id: "nvidia-474".into(),
        name: Some("NVIDIA A100-4C".into()),
        available: Some(left),
        device_api: None,
        description: None,
    };
    function.detail = Some(Box::new(Detail { mdev_types: vec![kind], ..Detail::default() }));
    inventory
}

#[test]
fn a_profile_is_found_by_name_with_and_without_its_vendor_and_by_id() {
    let given = Given::new(divided(2));
    for name in ["NVIDIA A100-4C", "a100-4c", "nvidia-474"] {
        assert_eq!(
            given.choose(&[&format!("2xprofile={name}")]).unwrap(),
            [at(1), at(1)],
            "{name}"
        );
    }
    for name in ["A100", "4C", ""] {
        let want = format!("profile={name}").parse::<Want>();
        let chosen = want.and_then(|_| given.choose(&[&format!("profile={name}")]));
        assert!(chosen.is_err(), "{name}");
    }
    assert!(given.choose(&["3xprofile=A100-4C"]).is_err());
    let names = BTreeMap::new();
    let wants: Vec<Want> = vec!["profile=A100-4C@0000:02:00.0".parse().unwrap()];
    assert!(
        needs_detail(&given.inventory, &wants, &names).is_empty(),
        "another device is not read"
    );
}

#[test]
fn a_mediated_device_of_mdevctls_is_used_as_it_is_or_made_as_it_is_written_down() {
    let uuid = Uuid::from_u128(7);
    let want = format!("mdev={uuid}");
    let mut given = Given::new(divided(2));
    assert_eq!(given.choose(&[&want]).unwrap_err().code, Code::NotFound);
    let attributes = vec![("x".to_owned(), "1".to_owned())];
    given.definitions =
        vec![MdevDefinition { parent: at(1), uuid, type_id: "nvidia-474".into(), attributes }];
    assert_eq!(given.choose(&[&want]).unwrap(), [at(1)]);
    let function = given.inventory.functions.get_mut(&at(1)).unwrap();
    function.mdevs.push(Mdev { uuid, type_id: Some("nvidia-474".into()), iommu_group: Some(9) });
    let wants: Vec<Want> = vec![want.parse().unwrap()];
    let scene = Scene {
        inventory: &given.inventory,
        claims: &[],
        barred: &given.barred,
        definitions: &given.definitions,
        resources: &BTreeMap::new(),
        names: &BTreeMap::new(),
        id: Uuid::nil(),
        options: Options::default(),
    };
    let chosen = choose(&scene, &wants).unwrap();
    let how = &chosen[0].partition.as_ref().unwrap().how;
    assert!(matches!(how, Mechanism::Mdev { existing: true, .. }), "{how:?}");
}

proptest! {
    /// Wishes with and without a node are met exactly if counting allows it (Hall's theorem), and no device is assigned
    /// twice.
    #[test]
    fn wishes_are_met_whenever_they_can_be(
        nodes in proptest::collection::vec(0..3u32, 1..8),
        barred in proptest::collection::vec(1..8u8, 0..3),
        asked in proptest::collection::vec((1..4u32, proptest::option::of(0..3u32)), 1..4),
    ) {
        let mut given = Given::new(gpus(&nodes));
        barred.iter().for_each(|bus| given.bar(*bus));
        let free = |node: Option<u32>| {
            let fits = |(there, bus): &(&u32, u8)| {
                node.is_none_or(|node| node == **there) && !barred.contains(bus)
            };
            nodes.iter().zip(1u8..).filter(fits).count()
        };
        let wanted = |node: Option<u32>| -> usize {
            asked.iter().filter(|(_, asked)| *asked == node).map(|(count, _)| *count as usize).sum()
        };
        let all: usize = asked.iter().map(|(count, _)| *count as usize).sum();
        let can = all <= free(None) && (0..3).all(|node| wanted(Some(node)) <= free(Some(node)));
        let wants: Vec<String> = asked
            .iter()
            .map(|(count, node)| match node {
                Some(node) => format!("{count}xgpu,node={node}"),
                None => format!("{count}xgpu"),
            })
            .collect();
        let wants: Vec<&str> = wants.iter().map(String::as_str).collect();
        let chosen = given.choose(&wants);
        prop_assert_eq!(chosen.is_ok(), can, "{:?}", chosen);
        if let Ok(mut heads) = chosen {
            prop_assert_eq!(heads.len(), all);
            heads.sort_unstable();
            heads.dedup();
            prop_assert_eq!(heads.len(), all, "one was given twice");
        }
    }
}
