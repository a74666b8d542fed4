//! The listing of hosts, as text and as JSON.

use model::choose::ExistingClaim;
use model::{
    Address, Claim, ClaimState, ClaimedMember, Code, Holder, Inventory, Kind, Mdev, MdevType,
    Mechanism, NumaNode, OwnState, Part, Partition, Refusal, Unhealthy, VfSettings, VgpuType,
    VgpuTypes, VirtualFunctions,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::rows::{Listing, Wanted};
use super::text::render;
use crate::filter::Filter;

fn shown(inventory: &Inventory, holders: &[Holder], wanted: &Wanted<'_>) -> String {
    let listing = Listing::of(inventory, holders, &OwnState::default(), wanted);
    anstream::adapter::strip_str(&render(&listing, None)).to_string()
}

/// The workstation with a drive on vfio and the default route through its NIC.
fn busy() -> (Inventory, Vec<Holder>) {
    let mut inventory = sim::workstation();
    let address = "0000:04:00.0".parse().unwrap();
    inventory.functions.get_mut(&address).unwrap().driver = Some("vfio-pci".into());
    let user = "default route".to_owned();
    let nic = "0000:03:00.0".parse().unwrap();
    (
        inventory,
        vec![Holder {
            address: nic,
            kind: model::HolderKind::Network,
            pid: None,
            started: None,
            program: None,
            user,
            by: "eth0".into(),
            mdev: None,
            interface: None,
        }],
    )
}

#[test]
fn assemblies_with_what_goes_with_them() {
    let (inventory, holders) = busy();
    snapbox::assert_data_eq!(
        shown(&inventory, &holders, &Wanted::default()),
        snapbox::file!["workstation.txt"]
    );
}

#[test]
fn as_json_with_all_that_a_program_asks_for() {
    let (inventory, holders) = busy();
    let listing = Listing::of(&inventory, &holders, &OwnState::default(), &Wanted::default());
    snapbox::assert_data_eq!(
        serde_json::to_string_pretty(&listing).unwrap() + "\n",
        snapbox::file!["workstation.json"]
    );
}

#[test]
fn nodes_are_shown_where_there_are_several() {
    let (mut inventory, holders) = busy();
    inventory.numa_nodes = (0..2).map(|node| (node, NumaNode::default())).collect();
    for function in inventory.functions.values_mut() {
        function.numa_node = Some(u32::from(function.address.bus() / 2).min(1));
    }
    snapbox::assert_data_eq!(
        shown(&inventory, &holders, &Wanted { all: true, ..Wanted::default() }),
        snapbox::file!["numa.txt"]
    );
}

#[test]
fn a_device_is_free_only_if_its_users_were_seen() {
    let (inventory, holders) = busy();
    let listing = Listing::of(&inventory, &holders, &OwnState::default(), &Wanted::default());
    let listing = Listing { users_hidden: true, ..listing };
    let text = anstream::adapter::strip_str(&render(&listing, None)).to_string();
    assert!(!text.contains(" free"), "{text}");
    assert!(text.contains("use unknown") && text.contains("on vfio, use unknown"), "{text}");
    assert!(text.contains("in use: default route"), "{text}");
}

#[test]
fn claimed_devices_say_whose_they_are_and_how_they_are_released() {
    let mut inventory = sim::workstation();
    let nic: Address = "0000:03:00.0".parse().unwrap();
    let vfs: Vec<Address> = vec!["0000:03:10.0".parse().unwrap()];
    inventory.functions.get_mut(&nic).unwrap().sriov =
        Some(VirtualFunctions { total: 4, present: vfs.clone(), autoprobe: None });
    let claim = |owner: &str, head: Address, partition, state| {
        let members = vec![ClaimedMember::unknown(head)];
        ExistingClaim {
            claim: Claim {
                id: Uuid::nil(),
                owner: owner.parse().unwrap(),
                reason: None,
                expires: None,
                parts: vec![Part { head, partition, members, at_boot: false }],
                state,
                boot_id: None,
            },
            owner: owner.into(),
            why: Refusal::new(Code::InUse, format!("is claimed by {owner}"), "release it"),
        }
    };
    let how = Mechanism::Vf { index: 0, settings: VfSettings::default() };
    let wedged = Unhealthy {
        word: "wedged",
        why: Refusal::new(Code::DeviceWedged, "the drive needs manual attention", "look at it"),
    };
    let own = OwnState {
        claims: vec![
            claim("job/7", "0000:01:00.0".parse().unwrap(), None, ClaimState::Prepared),
            claim("job/8", "0000:02:00.0".parse().unwrap(), None, ClaimState::Reserved),
            claim("pod/a", vfs[0], Some(Partition { parent: nic, how }), ClaimState::Prepared),
        ],
        unhealthy: [("0000:04:00.0".parse().unwrap(), wedged)].into(),
        names: std::collections::BTreeMap::new(),
    };
    let listing = Listing::of(&inventory, &[], &own, &Wanted::default());
    let text = anstream::adapter::strip_str(&render(&listing, None)).to_string();
    let ends = |address: &str, state: &str| {
        let row = text.lines().find(|line| line.starts_with(address)).unwrap();
        assert!(row.ends_with(state), "{row}");
    };
    ends("0000:01:00.0", "claimed: job/7");
    ends("0000:02:00.0", "claimed: job/8 (reserved)");
    ends("0000:03:00.0", "claimed: 1 partition by pod/a");
    ends("0000:04:00.0", "wedged, see [1]");
    // A claim that could not be restored, although no function is marked.
    let own = OwnState {
        claims: vec![claim("undo/p", "0000:01:00.0".parse().unwrap(), None, ClaimState::Wedged)],
        ..OwnState::default()
    };
    let wedged = Listing::of(&inventory, &[], &own, &Wanted::default());
    let row = wedged.assemblies.iter().find(|row| row.address.to_string() == "0000:01:00.0");
    assert_eq!(row.unwrap().state, super::rows::State::Wedged);
    assert!(!text.contains("sriov set"), "what a claim made is released, not removed: {text}");
}

#[test]
fn an_obstacle_of_the_host_is_printed_once() {
    let mut inventory = sim::workstation();
    inventory.vfio.iommu = false;
    let text = shown(&inventory, &[], &Wanted { all: true, ..Wanted::default() });
    assert_eq!(text.matches("intel_iommu=on").count(), 1, "{text}");
    assert!(text.contains("not possible, see [1]"), "{text}");
}

#[test]
fn filters_find_an_assembly_by_any_function_that_it_takes() {
    let inventory = sim::workstation();
    let heads = |filters: &[&str]| {
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        let wanted = Wanted { filters: &filters, ..Wanted::default() };
        let listing = Listing::of(&inventory, &[], &OwnState::default(), &wanted);
        listing.assemblies.iter().map(|row| row.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(heads(&["01:00.1"]), ["0000:01:00.0"]);
    assert_eq!(heads(&["audio", "group:3"]), ["0000:02:00.0"]);
    // The root port stays with the host, so it does not bring in the card behind it.
    assert!(heads(&["driver:pcieport"]).is_empty());
}

#[test]
fn many_users_are_counted() {
    let (inventory, holders) = busy();
    let holders: Vec<Holder> = (0..500)
        .map(|number| Holder { by: format!("eth{number}"), ..holders[0].clone() })
        .collect();
    let text = shown(&inventory, &holders, &Wanted::default());
    assert!(text.contains("on eth0; default route on eth1; default route on eth2; and 497 more"));
}

/// A name as `pci.ids` has it.
fn named(inventory: &mut Inventory, names: &[(&str, &str)]) {
    for function in inventory.functions.values_mut() {
        let ids = format!("{}:{}", function.vendor, function.device);
        let Some((_, name)) = names.iter().find(|(known, _)| *known == ids) else { continue };
        let (vendor, device) = name.split_once(" | ").unwrap();
        (function.vendor_name, function.device_name) = (Some(vendor.into()), Some(device.into()));
    }
}

const NAMES: [(&str, &str); 12] = [
    ("8086:1901", "Intel Corporation | 6th-10th Gen Core Processor PCIe Controller (x16)"),
    ("10de:2204", "NVIDIA Corporation | GA102 [GeForce RTX 3090]"),
    ("10de:1aef", "NVIDIA Corporation | GA102 High Definition Audio Controller"),
    (
        "1002:73bf",
        "Advanced Micro Devices, Inc. [AMD/ATI] | Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]",
    ),
    ("1002:ab28", "Advanced Micro Devices, Inc. [AMD/ATI] | Navi 21/23 HDMI/DP Audio Controller"),
    ("8086:10d3", "Intel Corporation | 82574L Gigabit Network Connection"),
    ("8086:2030", "Intel Corporation | Sky Lake-E PCI Express Root Port A"),
    ("10b5:9765", "PLX Technology, Inc. | PEX9765, PCIe Gen3 Switch"),
    ("10de:26b9", "NVIDIA Corporation | AD102GL [L40S]"),
    ("15b3:1021", "Mellanox Technologies | MT2910 Family [ConnectX-7]"),
    ("8086:1563", "Intel Corporation | Ethernet Controller X550"),
    ("1a03:2000", "ASPEED Technology, Inc. | ASPEED Graphics Family"),
];

/// Each width of a terminal, and a pipe.
fn at_all_widths(inventory: &Inventory, holders: &[Holder], wanted: &Wanted<'_>) -> String {
    let listing = Listing::of(inventory, holders, &OwnState::default(), wanted);
    let mut all = String::new();
    for width in [Some(60), Some(80), Some(120), None] {
        let text = anstream::adapter::strip_str(&render(&listing, width)).to_string();
        let most = width.unwrap_or(usize::MAX);
        assert!(text.lines().all(|line| line.chars().count() <= most), "{width:?}: {text}");
        let heading = width.map_or_else(|| "a pipe".into(), |width| format!("{width} columns"));
        all.push_str(&format!("=== {heading}\n{text}\n"));
    }
    all
}

#[test]
fn a_workstation_on_terminals_of_all_widths() {
    let (mut inventory, holders) = busy();
    named(&mut inventory, &NAMES);
    let wanted = Wanted { all: true, ..Wanted::default() };
    let text = at_all_widths(&inventory, &holders, &wanted);
    snapbox::assert_data_eq!(text, snapbox::file!["workstation-widths.txt"]);
}

#[test]
fn a_server_on_terminals_of_all_widths() {
    let mut inventory = sim::servers::pcie_box();
    named(&mut inventory, &NAMES);
    let wanted = Wanted { all: true, ..Wanted::default() };
    let text = at_all_widths(&inventory, &[], &wanted);
    snapbox::assert_data_eq!(text, snapbox::file!["server-widths.txt"]);
}

#[test]
fn a_reason_is_one_footnote_for_all_bridges() {
    let inventory = sim::servers::pcie_box();
    let text = shown(&inventory, &[], &Wanted { all: true, ..Wanted::default() });
    assert_eq!(text.matches("is a PCI bridge").count(), 1, "{text}");
    let bridges: Vec<_> =
        inventory.functions.values().filter(|one| one.kind() == Kind::Bridge).collect();
    let list = text.lines().find(|line| line.starts_with("    ADDRESS: ")).unwrap();
    assert!(bridges.len() > 10);
    assert!(bridges.iter().all(|bridge| list.contains(&bridge.address.to_string())), "{list}");
}

/// An IOMMU group with this many network cards, some without a driver.
fn group_of(count: u8) -> Inventory {
    let mut inventory = sim::workstation();
    let (mut function, number) = (inventory.functions.values().next_back().unwrap().clone(), 40);
    inventory.functions.clear();
    let mut group = inventory.groups.values().next().unwrap().clone();
    group.members.clear();
    for bus in 1..=count {
        function.address = Address::new(0, bus, 0, 0).unwrap();
        function.iommu_group = Some(number);
        function.driver = None;
        group.members.push(function.address);
        inventory.functions.insert(function.address, function.clone());
    }
    inventory.groups = [(number, group)].into();
    inventory
}

#[test]
fn a_group_of_many_devices_lists_them_once() {
    for count in [2, 3, 4, 10, 100] {
        let text = shown(&group_of(count), &[], &Wanted::default());
        let rows = text.lines().filter(|line| line.contains("0000:")).count();
        assert!(rows <= 3 * usize::from(count), "{count}: {text}");
    }
    let text = shown(&group_of(5), &[], &Wanted::default());
    assert!(text.contains("└ 0000:05:00.0"), "{text}");
    let referring = "stays: others of this IOMMU group, listed at 0000:01:00.0";
    assert_eq!(text.matches(referring).count(), 4, "{text}");
    assert_eq!(text.matches("└ 4 more").count(), 4, "{text}");
}

#[test]
fn vgpu_profiles_are_listed_by_card_with_how_many_are_left() {
    let mut inventory = sim::workstation();
    let gpu: Address = "0000:01:00.0".parse().unwrap();
    let kind = |id: &str, name: &str, available, description: &str| MdevType {
        id: id.into(),
        name: Some(name.into()),
        available: Some(available),
        device_api: None,
        description: Some(description.into()),
    };
    let card = inventory.functions.get_mut(&gpu).unwrap();
    card.detail.get_or_insert_default().mdev_types = vec![
        kind("nvidia-222", "GRID T4-1Q", 15, "framebuffer=1024M"),
        kind("nvidia-223", "GRID T4-4Q", 3, "framebuffer=4096M"),
    ];
    card.mdevs =
        vec![Mdev { uuid: Uuid::nil(), type_id: Some("nvidia-222".into()), iommu_group: None }];
    // And one of vendor-specific VFIO, with two virtual functions.
    let (parent, vgpu): (Address, Address) =
        ("0000:02:00.0".parse().unwrap(), "0000:02:00.4".parse().unwrap());
    for (function, current) in [(0, None), (1, Some(1155))] {
        let mut vf = inventory.functions[&parent].clone();
        vf.address = Address::new(0, 2, 0, vgpu.function() + function).unwrap();
        vf.physical_function = Some(parent);
        let creatable = [(1155, "NVIDIA L40S-1Q"), (1160, "NVIDIA L40S-16Q")];
        let creatable = creatable.map(|(id, name)| VgpuType { id, name: name.into() }).into();
        vf.detail.get_or_insert_default().vgpu = Some(VgpuTypes { current, creatable });
        inventory.functions.insert(vf.address, vf);
    }
    let text = shown(&inventory, &[], &Wanted { parts: true, ..Wanted::default() });
    let below = |address: &str| -> Vec<String> {
        let rows = text.lines().skip_while(|line| !line.starts_with(address)).skip(1);
        let rows = rows.take_while(|line| !line.starts_with("0000"));
        rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|line| line.contains("vGPUs") || line.contains("profile"))
            .collect()
    };
    assert_eq!(
        below("0000:01:00.0"),
        [
            "├ vGPUs 1 of 16 used",
            "├ profile T4-1Q 15 left, 1 GB each",
            "└ profile T4-4Q 3 left, 4 GB each"
        ]
    );
    assert_eq!(
        below("0000:02:00.0"),
        [
            "├ vGPUs 1 of 2 used",
            "├ profile L40S-16Q 1 left, 16 GB each",
            "└ profile L40S-1Q 1 left, 1 GB each"
        ]
    );
    assert!(!shown(&inventory, &[], &Wanted::default()).contains(" left"));
    let listing = |parts| {
        let wanted = Wanted { parts, ..Wanted::default() };
        let listing = Listing::of(&inventory, &[], &OwnState::default(), &wanted);
        serde_json::to_value(&listing).unwrap()["assemblies"][0]["vgpus"].clone()
    };
    assert_eq!(listing(true)["profiles"][0]["available"], 15);
    assert!(listing(false).is_null());
}

proptest! {
    #[test]
    fn no_inventory_makes_the_listing_panic(
        inventory in crate::any_inventory::inventory(),
        width in prop::option::of(0usize..200),
    ) {
        let listing = Listing::of(&inventory, &[], &OwnState::default(), &Wanted { all: true, ..Wanted::default() });
        let heads: Vec<_> = listing.assemblies.iter().map(|row| row.address).collect();
        prop_assert!(heads.is_sorted());
        render(&listing, width);
        serde_json::to_string(&listing).unwrap();
    }
}
