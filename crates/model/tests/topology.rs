//! The tree, and the distances in it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::topology::{Distance, Topology, TreeFunction};
use model::{Address, Class, Function, Inventory, NumaNode, VirtualFunctions};
use proptest::prelude::*;

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

/// One line of a host: address, class, node ("-" for none), then the bridges above it.
fn host(lines: &[&str]) -> Inventory {
    let mut inventory = Inventory::default();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, class, node, path @ ..] = &words[..] else { panic!("{line}") };
        let function = Function {
            class: class.parse::<Class>().unwrap(),
            numa_node: node.parse().ok(),
            path: path.iter().map(|bridge| at(bridge)).collect(),
            ..Function::unknown(at(address))
        };
        if let Some(node) = function.numa_node {
            inventory.numa_nodes.entry(node).or_insert_with(NumaNode::default);
        }
        inventory.functions.insert(function.address, function);
    }
    inventory
}

/// Two processors; on the first a switch with two GPUs, a NIC with a VF, and a drive; on the second a GPU and a drive
/// behind VMD.
fn server() -> Inventory {
    let mut inventory = host(&[
        "0000:00:01.0 060400 0",
        "0000:00:02.0 060400 0",
        "0000:00:1f.3 040300 0",
        "0000:00:1f.4 0c0500 0",
        "0000:01:00.0 060400 0 0000:00:01.0",
        "0000:02:00.0 060400 0 0000:00:01.0 0000:01:00.0",
        "0000:02:01.0 060400 0 0000:00:01.0 0000:01:00.0",
        "0000:03:00.0 030200 0 0000:00:01.0 0000:01:00.0 0000:02:00.0",
        "0000:04:00.0 030200 0 0000:00:01.0 0000:01:00.0 0000:02:01.0",
        "0000:05:00.0 020000 0 0000:00:02.0",
        "0000:05:10.0 020000 0 0000:00:02.0",
        "0000:40:01.0 060400 0",
        "0000:41:00.0 010802 0 0000:40:01.0",
        "0000:80:01.0 060400 1",
        "0000:81:00.0 030200 1 0000:80:01.0",
        "0000:81:01.0 010802 1 0000:80:01.0",
        "10000:e0:06.0 060400 1",
        "10000:e1:00.0 010802 1 10000:e0:06.0",
    ]);
    let (pf, vf) = (at("05:00.0"), at("05:10.0"));
    let sriov = VirtualFunctions { total: 8, present: vec![vf], autoprobe: None };
    inventory.functions.get_mut(&pf).unwrap().sriov = Some(sriov);
    inventory.functions.get_mut(&vf).unwrap().physical_function = Some(pf);
    inventory
}

fn drawn(topology: &Topology) -> String {
    fn draw(text: &mut String, place: &TreeFunction, depth: usize) {
        let _ = write!(text, "{:1$}{2} {3:?}", "", depth * 2, place.address, place.part);
        if !place.virtual_functions.is_empty() {
            let _ = write!(text, " +{} VFs", place.virtual_functions.len());
        }
        text.push_str(if place.clutter { " (clutter)\n" } else { "\n" });
        for child in &place.children {
            draw(text, child, depth + 1);
        }
    }
    let mut text = String::new();
    for node in &topology.nodes {
        let _ = writeln!(text, "node {:?}", node.node);
        for bus in &node.root_buses {
            let _ = writeln!(text, "bus {}", bus.bus);
            bus.children.iter().for_each(|place| draw(&mut text, place, 1));
        }
    }
    text
}

#[test]
fn each_function_is_in_its_place() {
    insta::assert_snapshot!(drawn(&Topology::of(&server())));
}

#[test]
fn a_filtered_tree_keeps_the_way_down() {
    let topology = Topology::of(&server()).keeping(&|place| place.address == at("04:00.0"));
    insta::assert_snapshot!(drawn(&topology), @r"
    node Some(0)
    bus 0000:00
      0000:00:01.0 RootPort
        0000:01:00.0 SwitchUpstream
          0000:02:01.0 SwitchDownstream
            0000:04:00.0 Device
    node Some(1)
    ");
}

#[test]
fn a_device_without_its_bridges_hangs_on_what_is_left() {
    let inventory = host(&["0000:03:00.0 030000 - 0000:00:01.0 0000:02:00.0"]);
    insta::assert_snapshot!(drawn(&Topology::of(&inventory)), @r"
    node None
    bus 0000:00
      0000:03:00.0 Device
    ");
}

#[test]
fn distances_by_what_joins_two_devices() {
    let inventory = server();
    let cases = [
        ("03:00.0", "03:00.0", Distance::SameSlot),
        ("00:1f.3", "00:1f.4", Distance::SameSlot),
        ("05:00.0", "05:10.0", Distance::SameSlot),
        ("03:00.0", "04:00.0", Distance::SameSwitch),
        ("81:00.0", "81:01.0", Distance::SameRootPort),
        ("03:00.0", "05:00.0", Distance::SameRootComplex),
        ("03:00.0", "05:10.0", Distance::SameRootComplex),
        ("03:00.0", "41:00.0", Distance::SameNode),
        ("81:00.0", "10000:e1:00.0", Distance::SameNode),
        ("03:00.0", "81:00.0", Distance::Across),
    ];
    for (a, b, distance) in cases {
        let (a, b) = (&inventory.functions[&at(a)], &inventory.functions[&at(b)]);
        assert_eq!(Distance::between(&inventory, a, b), distance, "{a:?} {b:?}");
    }
}

#[test]
fn without_numa_all_is_one_node_and_with_unknown_nodes_nothing_is_claimed() {
    let mut inventory = host(&["0000:00:01.0 030000 -", "0000:40:01.0 030000 -"]);
    let far = |inventory: &Inventory| {
        let functions = &inventory.functions;
        Distance::between(inventory, &functions[&at("00:01.0")], &functions[&at("40:01.0")])
    };
    assert_eq!(far(&inventory), Distance::Unknown);
    inventory.numa_nodes.insert(0, NumaNode::default());
    assert_eq!(far(&inventory), Distance::SameNode);
    inventory.numa_nodes.insert(1, NumaNode::default());
    assert_eq!(far(&inventory), Distance::Unknown);
}

/// A host that a kernel could show: each number is one function, behind an earlier one or on a root bus.
fn tree() -> impl Strategy<Value = Inventory> {
    prop::collection::vec((any::<prop::sample::Index>(), 0u8..6), 1..60).prop_map(|choices| {
        let mut made: Vec<(Function, bool)> = Vec::new();
        let mut next_bus: u8 = 0x10;
        let mut slots: BTreeMap<Option<Address>, u8> = BTreeMap::new();
        let mut buses: BTreeMap<Option<Address>, u8> = BTreeMap::new();
        for (choice, what) in choices {
            let bridge = what < 3;
            let above = made.get(choice.index(made.len() + 1)).filter(|(_, bridge)| *bridge);
            let above = above.map(|(function, _)| function.clone());
            let key = above.as_ref().map(|function| function.address);
            let slot = slots.entry(key).or_default();
            *slot += 1;
            let (bus, path, node) = match &above {
                Some(port) => {
                    let bus = *buses.entry(key).or_insert_with(|| {
                        next_bus += 1;
                        next_bus
                    });
                    let mut path = port.path.clone();
                    path.push(port.address);
                    (bus, path, port.numa_node)
                }
                // Four root buses, two on each of two nodes.
                None => (what % 4, Vec::new(), Some(u32::from(what % 4 / 2))),
            };
            let Some(address) = Address::new(0, bus, *slot / 2, *slot % 2) else { continue };
            let class = Class(if bridge { 0x06_0400 } else { 0x02_0000 });
            let function = Function { class, path, numa_node: node, ..Function::unknown(address) };
            made.push((function, bridge));
        }
        let numa_nodes = (0..2).map(|node| (node, NumaNode::default())).collect();
        let functions = made.into_iter().map(|(function, _)| (function.address, function));
        Inventory { functions: functions.collect(), numa_nodes, ..Inventory::default() }
    })
}

/// Functions with arbitrary paths, physical functions and nodes, consistent or not.
fn nonsense() -> impl Strategy<Value = Inventory> {
    let address = (0u8..3, 0u8..3, 0u8..2)
        .prop_map(|(bus, device, function)| Address::new(0, bus, device, function).unwrap());
    let function = (
        address.clone(),
        prop::collection::vec(address.clone(), 0..6),
        prop::option::of(address),
        prop::option::of(0u32..3),
        prop::sample::select(vec![0x06_0400, 0x03_0000, 0x02_0000, 0x06_8000, 0x06_0000]),
    )
        .prop_map(|(address, path, physical_function, numa_node, class)| Function {
            class: Class(class),
            path,
            physical_function,
            numa_node,
            ..Function::unknown(address)
        });
    prop::collection::vec(function, 0..20).prop_map(|functions| Inventory {
        functions: functions.into_iter().map(|function| (function.address, function)).collect(),
        ..Inventory::default()
    })
}

proptest! {
    #[test]
    fn distance_is_a_symmetric_ultrametric(inventory in tree()) {
        let functions: Vec<&Function> = inventory.functions.values().collect();
        let between = |a, b| Distance::between(&inventory, a, b);
        for a in &functions {
            prop_assert_eq!(between(a, a), Distance::SameSlot);
            for b in &functions {
                prop_assert_eq!(between(a, b), between(b, a));
                for c in &functions {
                    // Functions of one slot share all bridges, so this also holds for bridges.
                    prop_assert!(between(a, c) <= between(a, b).max(between(b, c)));
                }
            }
        }
    }

    #[test]
    fn every_function_is_in_the_tree_once(inventory in prop_oneof![tree(), nonsense()]) {
        let topology = Topology::of(&inventory);
        let mut seen: Vec<Address> = topology
            .functions()
            .flat_map(|place| [place.address].into_iter().chain(place.virtual_functions.clone()))
            .collect();
        seen.sort_unstable();
        let all: Vec<Address> = inventory.functions.keys().copied().collect();
        prop_assert_eq!(seen, all);
    }

    #[test]
    fn distance_is_symmetric_whatever_was_read(inventory in nonsense()) {
        for a in inventory.functions.values() {
            for b in inventory.functions.values() {
                let there = Distance::between(&inventory, a, b);
                prop_assert_eq!(there, Distance::between(&inventory, b, a));
            }
        }
    }
}

#[test]
fn distances_are_ordered_as_they_are_listed() {
    assert!(Distance::ALL.is_sorted());
}
