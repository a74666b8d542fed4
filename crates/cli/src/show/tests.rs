//! The text of `handover show`.

use model::{
    Acs, Bar, Detail, Holder, Inventory, Link, Mdev, MdevType, MigInstance, NumaNode, OwnState,
    PortType, ResizableBar, VgpuType, VgpuTypes, VirtualFunctions,
};

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

/// The workstation's first GPU, with every detail that a function can have.
fn rich() -> Inventory {
    let mut inventory = sim::workstation();
    let distances = vec![10];
    let node = NumaNode { cpus: "0-15".into(), sockets: vec![0], memory: 64 << 30, distances };
    inventory.numa_nodes.insert(0, node);
    let link = |speed, width| Link { speed, width, max_speed: 160, max_width: 16 };
    let port = inventory.functions.get_mut(&at("00:01.0")).unwrap();
    port.detail = Some(Box::new(Detail {
        port_type: Some(PortType::RootPort),
        link: Some(Link { max_speed: 80, ..link(80, 16) }),
        acs: Some(Acs { supported: 0x1d, enabled: 0 }),
        ..Detail::default()
    }));
    let gpu = inventory.functions.get_mut(&at("01:00.0")).unwrap();
    gpu.vendor_name = Some("NVIDIA Corporation".into());
    gpu.device_name = Some("GA102 [GeForce RTX 3090]".into());
    gpu.numa_node = Some(0);
    gpu.path = vec![at("00:01.0")];
    gpu.boot_vga = true;
    gpu.reset_methods = vec!["bus".into()];
    let bar = |index, size, prefetchable| Bar {
        index,
        start: 0xe000_0000,
        size,
        io: false,
        is_64bit: prefetchable,
        prefetchable,
        unassigned: false,
    };
    gpu.bars = vec![bar(0, 16 << 20, false), bar(1, 256 << 20, true)];
    gpu.power.state = Some("D0".into());
    gpu.power.d3cold_allowed = Some(true);
    gpu.sriov = Some(VirtualFunctions { total: 16, present: Vec::new(), autoprobe: Some(true) });
    gpu.nodes.drm = vec!["card0".into(), "renderD128".into()];
    gpu.nodes.nvidia_minor = Some(0);
    let uuid = "a297db4a-f4c2-11e6-90f6-d3b88d6c9525".parse().unwrap();
    gpu.mdevs = vec![Mdev { uuid, type_id: Some("nvidia-474".into()), iommu_group: Some(40) }];
    gpu.detail = Some(Box::new(rich_detail(link(80, 16))));
    gpu.notes = vec!["its enabled VFs cannot be read in time".into()];
    inventory
}

fn rich_detail(link: Link) -> Detail {
    Detail {
        serial: Some("00-11-22-ff-fe-33-44-55".into()),
        driver_override: Some("vfio-pci".into()),
        candidate_drivers: vec!["nouveau".into(), "nvidia".into()],
        link: Some(link),
        flr: Some(false),
        pm_reset: Some(true),
        resizable_bars: vec![ResizableBar { index: 1, size: 256 << 20, largest: 32 << 30 }],
        mdev_types: vec![MdevType {
            id: "nvidia-474".into(),
            name: Some("NVIDIA A100-4C".into()),
            available: Some(3),
            device_api: None,
            description: None,
        }],
        vgpu: Some(VgpuTypes {
            current: None,
            creatable: vec![VgpuType { id: 1155, name: "NVIDIA L40S-1Q".into() }],
        }),
        capabilities: vec!["MSI".into(), "PM".into()],
        mig: [(None, 12), (Some(0), 13)]
            .map(|(compute_instance, capability)| MigInstance {
                gpu_instance: 1,
                compute_instance,
                capability,
            })
            .to_vec(),
        modes: model::GpuModes { ecc: Some(true), mig: Some(true), cc: Some(false) },
        ..Detail::default()
    }
}

fn shown(inventory: &Inventory, address: &str, holders: &[Holder]) -> String {
    let sheet =
        Sheet::of(inventory, &inventory.functions[&at(address)], holders, &OwnState::default());
    anstream::adapter::strip_str(&text::render(&sheet, None)).to_string()
}

#[test]
fn everything_of_a_gpu() {
    let holder = Holder {
        address: at("01:00.1"),
        kind: model::HolderKind::Process,
        pid: Some(4711),
        started: None,
        program: None,
        user: "pipewire (pid 4711, user@1000.service)".into(),
        by: "/dev/snd/controlC0".into(),
        mdev: None,
        interface: None,
    };
    snapbox::assert_data_eq!(
        shown(&rich(), "01:00.0", &[holder]),
        snapbox::file!["tests/everything.txt"]
    );
}

#[test]
fn obstacles_are_shown_with_their_remedies() {
    let mut inventory = sim::workstation();
    inventory.vfio.iommu = false;
    snapbox::assert_data_eq!(
        shown(&inventory, "03:00.0", &[]),
        snapbox::file!["tests/impossible.txt"]
    );
}

#[test]
fn as_json() {
    let inventory = rich();
    let sheet =
        Sheet::of(&inventory, &inventory.functions[&at("01:00.0")], &[], &OwnState::default());
    let text = serde_json::to_string_pretty(&sheet).unwrap() + "\n";
    snapbox::assert_data_eq!(text, snapbox::file!["tests/everything.json"]);
}

#[test]
fn long_lists_are_cut_and_strange_texts_are_harmless() {
    let mut inventory = rich();
    let present: Vec<Address> = (0..200).map(|bus| Address::new(0, bus, 0, 1).unwrap()).collect();
    let gpu = inventory.functions.get_mut(&at("01:00.0")).unwrap();
    gpu.sriov = Some(VirtualFunctions { total: 200, present, autoprobe: None });
    gpu.driver = Some("\u{1b}[2Jevil".into());
    let text = shown(&inventory, "01:00.0", &[]);
    assert!(text.contains("and 184 more") && !text.contains('\u{1b}'), "{text}");
    let (own, function) = (OwnState::default(), &inventory.functions[&at("01:00.0")]);
    let raw = text::render(&Sheet::of(&inventory, function, &[], &own), None);
    assert!(!raw.contains("\u{1b}[2J"));
}

#[test]
fn a_function_of_which_nothing_is_known_has_a_sheet() {
    let address = at("00:1f.0");
    let mut inventory = Inventory::default();
    inventory.functions.insert(address, model::Function::unknown(address));
    assert!(shown(&inventory, "00:1f.0", &[]).contains("ffff:ffff"));
}

proptest! {
    #[test]
    fn no_inventory_makes_a_sheet_panic(inventory in crate::any_inventory::inventory()) {
        for function in inventory.functions.values() {
            let sheet = Sheet::of(&inventory, function, &[], &OwnState::default());
            text::render(&sheet, Some(80));
            serde_json::to_string(&sheet).unwrap();
            prop_assert!(find::find(&inventory, &function.address.to_string()).is_ok());
        }
    }
}

#[test]
fn a_vgpu_is_shown_with_the_name_of_its_profile() {
    let mut inventory = rich();
    let (gpu, vf, other) = (at("01:00.0"), at("01:00.4"), at("01:00.5"));
    let kind = |id, name: &str| VgpuType { id, name: name.into() };
    for (address, current, creatable) in [
        (vf, Some(1158), Vec::new()),
        (other, None, vec![kind(1155, "NVIDIA L40S-1Q"), kind(1158, "NVIDIA L40S-4Q")]),
    ] {
        let mut function = inventory.functions[&gpu].clone();
        function.address = address;
        function.physical_function = Some(gpu);
        let vgpu = Some(VgpuTypes { current, creatable });
        function.detail = Some(Box::new(Detail { vgpu, ..Detail::default() }));
        inventory.functions.insert(address, function);
    }
    let show = |inventory: &Inventory| {
        let own = OwnState::default();
        let function = inventory.function(vf).unwrap();
        text::render(&Sheet::of(inventory, function, &[], &own), None)
    };
    assert!(show(&inventory).contains("L40S-4Q  (1158)"), "{}", show(&inventory));
    inventory.functions.remove(&other);
    assert!(show(&inventory).contains("type 1158"), "its name is not known");
}

#[test]
fn a_narrow_terminal_breaks_lines_between_words() {
    let inventory = rich();
    let own = OwnState::default();
    let holders = Vec::new();
    let function = inventory.function(at("01:00.0")).unwrap();
    let sheet = Sheet::of(&inventory, function, &holders, &own);
    let shown = |width| anstream::adapter::strip_str(&text::render(&sheet, width)).to_string();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for width in [60, 80] {
        let text = shown(Some(width));
        let long: Vec<&str> = text
            .lines()
            .filter(|line| line.chars().count() > width)
            .filter(|line| line.split_whitespace().count() > 1)
            .collect();
        assert!(long.is_empty(), "{width}: {long:#?}");
        assert_eq!(words(&text), words(&shown(None)));
    }
}
