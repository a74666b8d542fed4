//! Which devices are chosen on servers with many of them: close together, and leaving the others together.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use model::choose::{Options, Scene, Want, choose};
use model::topology::{Distance, Place};
use model::{Address, Code, Function, Inventory, Kind, Refusal};
use proptest::prelude::*;
use sim::servers;
use uuid::Uuid;

/// Chooses on a host on which only these numbers of the GPUs and accelerators are free.
fn chosen(
    inventory: &Inventory,
    free: &[usize],
    wants: &[&str],
    options: Options,
) -> Result<Vec<Address>, Refusal> {
    let gpus = gpus(inventory);
    let taken = gpus.iter().enumerate().filter(|(number, _)| !free.contains(number));
    let barred: BTreeMap<Address, Refusal> = taken
        .map(|(_, gpu)| (*gpu, Refusal::new(Code::InUse, format!("{gpu} is used"), "wait")))
        .collect();
    let scene = Scene {
        inventory,
        claims: &[],
        barred: &barred,
        definitions: &[],
        resources: &BTreeMap::new(),
        names: &BTreeMap::new(),
        id: Uuid::nil(),
        options,
    };
    let wants: Vec<Want> = wants.iter().map(|want| want.parse().unwrap()).collect();
    choose(&scene, &wants).map(|chosen| chosen.into_iter().map(|one| one.head).collect())
}

/// The GPUs and accelerators without the management controller's display, by address.
fn gpus(inventory: &Inventory) -> Vec<Address> {
    let functions = inventory.functions.values();
    functions
        .filter(|function| matches!(function.kind(), Kind::Gpu | Kind::Accelerator))
        .filter(|function| !function.is_hosts_display())
        .map(|function| function.address)
        .collect()
}

/// The numbers of the chosen GPUs.
fn numbers(inventory: &Inventory, free: &[usize], want: &str) -> Vec<usize> {
    let all = gpus(inventory);
    let chosen = chosen(inventory, free, &[want], Options::default()).unwrap();
    chosen.iter().map(|gpu| all.iter().position(|other| other == gpu).unwrap()).collect()
}

fn function(inventory: &Inventory, address: Address) -> &Function {
    inventory.function(address).unwrap()
}

const ALL: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn pairs_are_taken_from_one_switch() {
    let dgx1 = servers::dgx1();
    assert_eq!(numbers(&dgx1, &[0, 2, 4, 5], "2xgpu"), [4, 5]);
    assert_eq!(numbers(&dgx1, &ALL, "2xgpu"), [0, 1]);
    // Three of one processor, and the pair of the other one stays whole.
    assert_eq!(numbers(&dgx1, &[0, 1, 2, 4, 5], "3xgpu"), [0, 1, 2]);
    let a100 = servers::dgx_a100();
    assert_eq!(numbers(&a100, &[1, 2, 4, 5, 7], "2xgpu"), [4, 5]);
    let pcie = servers::pcie_box();
    assert_eq!(numbers(&pcie, &[1, 2, 3, 4], "2xgpu"), [2, 3]);
}

#[test]
fn a_single_one_is_taken_where_it_breaks_up_the_least() {
    let dgx1 = servers::dgx1();
    assert_eq!(numbers(&dgx1, &[0, 1, 2, 4, 5, 6, 7], "gpu"), [2]);
    assert_eq!(numbers(&servers::dgx_a100(), &[0, 1, 2, 3, 5], "gpu"), [5]);
    let h100 = servers::hgx_h100();
    assert_eq!(numbers(&h100, &[0, 1, 2, 3, 7], "gpu"), [7]);
    assert_eq!(numbers(&h100, &[0, 1, 2, 5, 6, 7], "3xgpu"), [0, 1, 2]);
    assert_eq!(numbers(&servers::hgx_b200(), &[0, 4, 5, 6, 7], "4xgpu"), [4, 5, 6, 7]);
}

#[test]
fn accelerators_are_chosen_like_gpus() {
    assert_eq!(numbers(&servers::mi300x(), &[1, 3, 4, 5, 6, 7], "2xaccelerator"), [1, 3]);
}

#[test]
fn a_gpu_and_an_adapter_are_taken_from_one_switch() {
    for (name, inventory) in [
        ("DGX-1", servers::dgx1()),
        ("DGX A100", servers::dgx_a100()),
        ("HGX H100", servers::hgx_h100()),
        ("PCIe box", servers::pcie_box()),
    ] {
        for free in 0..8 {
            let chosen = chosen(&inventory, &[free], &["gpu", "nic"], Options::default()).unwrap();
            let distance = Distance::between(
                &inventory,
                function(&inventory, chosen[0]),
                function(&inventory, chosen[1]),
            );
            assert_eq!(distance, Distance::SameSwitch, "{name} {free}");
        }
    }
}

#[test]
fn what_is_named_draws_the_others_near() {
    let pcie = servers::pcie_box();
    let nics: Vec<Address> = pcie
        .functions
        .values()
        .filter(|function| function.vendor.0 == 0x15b3)
        .map(|function| function.address)
        .collect();
    for (number, nic) in nics.iter().enumerate() {
        let named = nic.to_string();
        let chosen = chosen(&pcie, &ALL, &[&named, "gpu"], Options::default()).unwrap();
        let all = gpus(&pcie);
        let gpu = all.iter().position(|gpu| *gpu == chosen[1]).unwrap();
        assert_eq!(gpu / 2, number / 2, "{named}");
    }
}

#[test]
fn the_display_of_the_management_controller_is_never_meant_by_a_kind() {
    for inventory in [servers::dgx1(), servers::hgx_h100(), servers::pcie_box()] {
        let display = inventory.functions.values().find(|one| one.is_hosts_display()).unwrap();
        let free = [3];
        let one = chosen(&inventory, &free, &["gpu"], Options::default()).unwrap();
        assert_eq!(one, [gpus(&inventory)[3]]);
        let refused = chosen(&inventory, &[], &["gpu"], Options::default()).unwrap_err();
        assert_eq!(refused.code, Code::InsufficientResources);
        // Allowed, it comes last; named, it needs no permission.
        let any = Options { any_display: true, ..Options::default() };
        assert_eq!(chosen(&inventory, &free, &["gpu"], any).unwrap(), one);
        assert_eq!(chosen(&inventory, &[], &["gpu"], any).unwrap(), [display.address]);
        let named = display.address.to_string();
        assert_eq!(
            chosen(&inventory, &[], &[&named], Options::default()).unwrap(),
            [display.address]
        );
        // Two are of one model.
        let refused = chosen(&inventory, &free, &["2xgpu"], any).unwrap_err();
        assert!(refused.remedy.contains("--mixed"), "{refused:?}");
        let mixed = Options { mixed: true, ..any };
        assert_eq!(chosen(&inventory, &free, &["2xgpu"], mixed).unwrap().len(), 2);
    }
}

#[test]
fn a_host_with_only_its_own_display_says_so() {
    let mut inventory = sim::workstation();
    let gpu: Vec<Address> = inventory
        .functions
        .values()
        .filter(|function| function.kind() == Kind::Gpu)
        .map(|function| function.address)
        .collect();
    for address in &gpu {
        inventory.functions.get_mut(address).unwrap().boot_vga = true;
    }
    let refused = chosen(&inventory, &ALL, &["gpu"], Options::default()).unwrap_err();
    assert!(refused.message.contains("the display of the host's console"), "{refused:?}");
    assert!(refused.remedy.contains("--any-display"), "{refused:?}");
}

#[test]
fn places_tell_the_distances() {
    for inventory in [
        servers::dgx1(),
        servers::dgx_a100(),
        servers::hgx_b200(),
        servers::mi300x(),
        servers::pcie_box(),
        sim::workstation(),
    ] {
        let functions: Vec<&Function> = inventory.functions.values().collect();
        for (number, one) in functions.iter().enumerate() {
            for other in functions.iter().skip(number + 1) {
                let pair = format!("{} and {}", one.address, other.address);
                assert_eq!(
                    by_places(&inventory, one, other),
                    Distance::between(&inventory, one, other),
                    "{pair}"
                );
            }
        }
    }
}

fn by_places(inventory: &Inventory, one: &Function, other: &Function) -> Distance {
    let (one, other) = (Place::of(inventory, one), Place::of(inventory, other));
    let same = |depth: &usize| {
        one.ancestor(*depth).is_some() && one.ancestor(*depth) == other.ancestor(*depth)
    };
    one.distance_below((0..).take_while(same).count())
}

/// The least sum of distances of a choice of `gpus` GPUs and `nics` adapters, by trying all, and with it the least sum among
/// those that are left.
fn by_trying(
    inventory: &Inventory,
    free: &[usize],
    gpu_count: usize,
    nic_count: usize,
) -> (u32, u32) {
    let all = gpus(inventory);
    let mut candidates: Vec<&Function> =
        free.iter().filter_map(|number| inventory.function(*all.get(*number)?)).collect();
    let nics = if nic_count == 0 { 0 } else { usize::MAX };
    candidates.extend(inventory.functions.values().filter(|f| f.kind() == Kind::Nic).take(nics));
    let mut best = (u32::MAX, u32::MAX);
    for set in 0u32..1 << candidates.len() {
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for (number, one) in candidates.iter().enumerate() {
            let side = if set & (1 << number) == 0 { &mut left } else { &mut taken };
            side.push(*one);
        }
        let count = |kind| taken.iter().filter(|function| function.kind() == kind).count();
        if taken.len() == gpu_count + nic_count && count(Kind::Nic) == nic_count {
            best = best.min((sum(inventory, &taken), sum(inventory, &left)));
        }
    }
    best
}

fn sum(inventory: &Inventory, set: &[&Function]) -> u32 {
    let pairs = set.iter().enumerate().flat_map(|(number, one)| {
        set.iter().skip(number + 1).map(|other| Distance::between(inventory, one, other).cost())
    });
    pairs.sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_other_choice_is_closer_or_leaves_more_together(
        host in 0..4usize,
        free in proptest::sample::subsequence(ALL.to_vec(), 1..=8),
        gpu_count in 1..5usize,
        nic_count in 0..2usize,
    ) {
        let inventory = match host {
            0 => servers::dgx1(),
            1 => servers::dgx_a100(),
            2 => servers::hgx_h100(),
            _ => servers::pcie_box(),
        };
        prop_assume!(gpu_count <= free.len());
        let gpu_wish = format!("{gpu_count}xgpu");
        let nic_wish = format!("{nic_count}xnic");
        let mut wants = vec![gpu_wish.as_str()];
        if nic_count > 0 {
            wants.push(&nic_wish);
        }
        // Adapters of two models are in one of the hosts.
        let mixed = Options { mixed: true, ..Options::default() };
        let chosen = chosen(&inventory, &free, &wants, mixed).unwrap();
        let taken: Vec<&Function> =
            chosen.iter().map(|address| function(&inventory, *address)).collect();
        let all = gpus(&inventory);
        let candidates = free
            .iter()
            .filter_map(|number| inventory.function(all[*number]))
            .chain(inventory.functions.values().filter(|f| nic_count > 0 && f.kind() == Kind::Nic));
        let left: Vec<&Function> =
            candidates.filter(|one| !chosen.contains(&one.address)).collect();
        prop_assert_eq!(
            (sum(&inventory, &taken), sum(&inventory, &left)),
            by_trying(&inventory, &free, gpu_count, nic_count)
        );
    }
}
