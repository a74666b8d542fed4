//! The serialized inventory matches the schema in `docs/`, and the schema is strict enough to detect deviations.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use host::LinuxHost;
use jsonschema::Validator;
use model::{
    Acs, Bar, Detail, Host, Inventory, Link, Mdev, MdevType, NumaNode, PortType, ResizableBar,
    VgpuType, VgpuTypes, VirtualFunctions,
};
use serde_json::Value;

fn schema() -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/inventory.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn keeps_to(schema: &Validator, what: &str, inventory: &Inventory) {
    let value = serde_json::to_value(inventory).unwrap();
    let errors: Vec<String> = schema
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

/// A host on which every part of the inventory has a value.
fn full() -> Inventory {
    let mut inventory = sim::workstation();
    inventory.numa_nodes.insert(
        0,
        NumaNode { cpus: "0-7".into(), sockets: vec![0], memory: 1 << 34, distances: vec![10] },
    );
    let function = inventory.functions.values_mut().nth(1).unwrap();
    function.bars.push(Bar {
        index: 6,
        start: 0xfe00_0000,
        size: 1 << 36,
        io: false,
        is_64bit: true,
        prefetchable: true,
        unassigned: false,
    });
    function.sriov =
        Some(VirtualFunctions { total: 7, present: vec![function.address], autoprobe: Some(true) });
    function.mdevs.push(Mdev {
        uuid: "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001".parse().unwrap(),
        type_id: Some("nvidia-474".into()),
        iommu_group: Some(30),
    });
    function.detail = Some(Box::new(Detail {
        serial: Some("00-11-22-ff-fe-33-44-55".into()),
        link: Some(Link { speed: 25, width: 4, max_speed: 640, max_width: 16 }),
        port_type: Some(PortType::LegacyEndpoint),
        acs: Some(Acs { supported: 0x5f, enabled: 0x1d }),
        flr: Some(true),
        resizable_bars: vec![ResizableBar { index: 1, size: 1 << 28, largest: 1 << 35 }],
        mdev_types: vec![MdevType {
            id: "nvidia-474".into(),
            name: None,
            available: Some(4),
            device_api: Some("vfio-pci".into()),
            description: None,
        }],
        vgpu: Some(VgpuTypes {
            current: Some(1155),
            creatable: vec![VgpuType { id: 1155, name: "NVIDIA L40S-1Q".into() }],
        }),
        capabilities: vec!["MSI-X".into()],
        ..Detail::default()
    }));
    inventory
}

#[test]
fn written_inventories_match_the_schema() {
    let schema = schema();
    keeps_to(&schema, "an empty host", &Inventory::default());
    keeps_to(&schema, "the simulation's workstation", &sim::workstation());
    keeps_to(&schema, "a host with everything", &full());
    // The machine that runs the tests.
    let host = LinuxHost::reader(Path::new("/")).unwrap().inventory().unwrap();
    keeps_to(&schema, "this machine", &host);
}

#[test]
fn the_schema_notices_what_is_wrong() {
    let schema = schema();
    let right = serde_json::to_value(full()).unwrap();
    let address = full().functions.values().nth(1).unwrap().address.to_string();
    let wrong = |path: &str, value: Value| {
        let mut changed = right.clone();
        *changed.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value;
        assert!(!schema.is_valid(&changed), "{path}");
    };
    let function = |path: &str| format!("/functions/{address}/{path}");
    wrong("/functions", Value::Null);
    wrong("/vfio/iommu", "yes".into());
    wrong(&function("vendor"), "0x10de".into());
    wrong(&function("class"), "0302".into());
    wrong(&function("address"), "somewhere".into());
    wrong(&function("sriov/total"), (-1).into());
    wrong(&function("detail/port_type"), "socket".into());
    wrong(&function("bars/0/size"), "1G".into());
    let mut missing = right.clone();
    missing["functions"][&address].as_object_mut().unwrap().remove("vfio_driver");
    assert!(!schema.is_valid(&missing));
}

#[test]
fn recordings_keep_to_the_schema() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/recordings");
    let Ok(files) = std::fs::read_dir(folder) else { return };
    let schema = schema();
    for file in files {
        let path = file.unwrap().path();
        if path.to_string_lossy().ends_with(".tar.gz") {
            let host = LinuxHost::reader(&path).unwrap();
            keeps_to(&schema, &path.display().to_string(), &host.inventory().unwrap());
        }
    }
}
