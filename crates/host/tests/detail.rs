//! The detail of functions, on a fake host.
#![allow(clippy::unwrap_used)]

mod fake;

use fake::Fake;
use host::LinuxHost;
use model::{
    Address, Detail, Function, Link, MdevType, MigInstance, PortType, VgpuType, VgpuTypes,
};
use proptest::prelude::*;

const GPU: &str = "0000:01:00.0";
const VF: &str = "0000:01:00.4";

/// A GPU behind a root port, with a virtual function.
fn machine() -> Fake {
    let fake = Fake::new();
    let port = fake.function("0000:00:01.0", "8086:1901", "060400");
    port.group(1).driver("pcieport");
    let gpu = fake.function(&format!("0000:00:01.0/{GPU}"), "10de:20b0:10de:1450", "030200");
    gpu.group(2).driver("nvidia").with("sriov_totalvfs", "16\n").with("sriov_numvfs", "1\n");
    let vf = fake.function(&format!("0000:00:01.0/{VF}"), "10de:20b0:10de:1450", "030200");
    vf.group(3).driver("nvidia").link("physfn", &format!("../{GPU}"));
    fake.file(
        "lib/modules/6.1.0-test/modules.alias",
        "alias pci:v000010DEd*sv*sd*bc03sc02i00* nvidia\n\
         alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\n\
         alias pci:v00008086d*sv*sd*bc03sc*i* i915\n\
         alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n",
    );
    fake.file(
        "lib/modules/6.1.0-test/modules.builtin.modinfo",
        "nova-core.alias=pci:v000010DEd*sv*sd*bc03sc02i00*\0nova-core.file=drivers/gpu/nova-core\0\
         simplefb.alias=of:N*T*Csimple-framebuffer\0",
    );
    fake
}

/// The path of a function's attribute.
fn at(address: &str, name: &str) -> String {
    format!("sys/bus/pci/devices/{address}/{name}")
}

fn read(fake: &Fake, address: &str) -> (Function, Detail) {
    let address: Address = address.parse().unwrap();
    let inventory = LinuxHost::reader(fake.root()).unwrap().detail(Some(&[address])).unwrap();
    assert!(inventory.functions.values().all(|f| f.detail.is_some() == (f.address == address)));
    let function = inventory.function(address).unwrap().clone();
    let detail = *function.detail.clone().unwrap();
    (function, detail)
}

/// Configuration space with these registers.
fn space(length: usize, entries: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[0x06] = 0x10;
    bytes[0x34] = 0x40;
    for (at, value) in entries {
        bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[test]
fn configuration_space_and_attributes_are_read() {
    let fake = machine();
    let registers = [(0x40, 0x0002_0010), (0x44, 1 << 28), (0x4c, 0x0104), (0x50, 0x1104 << 16)];
    fake.file(&at(GPU, "config"), space(4096, &registers));
    fake.file(&at(GPU, "driver_override"), "vfio-pci\n");
    let (function, detail) = read(&fake, GPU);
    assert_eq!(function.notes, [""; 0]);
    assert_eq!(detail.port_type, Some(PortType::Endpoint));
    let link = Link { speed: 160, width: 16, max_speed: 160, max_width: 16 };
    assert_eq!((detail.link, detail.flr), (Some(link), Some(true)));
    assert_eq!(detail.driver_override.as_deref(), Some("vfio-pci"));
    assert_eq!(detail.vf_count, Some(1));
    assert_eq!(detail.candidate_drivers, ["nouveau", "nova_core", "nvidia"]);
    assert_eq!(detail.capabilities, ["PCIe"]);
    assert_eq!((detail.mdev_types, detail.vgpu), (vec![], None));
}

#[test]
fn without_roots_rights_the_kernels_attributes_tell_the_link() {
    let fake = machine();
    fake.file(&at(GPU, "config"), space(64, &[]));
    fake.file(&at(GPU, "current_link_speed"), "2.5 GT/s PCIe\n");
    fake.file(&at(GPU, "current_link_width"), "8\n");
    fake.file(&at(GPU, "max_link_speed"), "16.0 GT/s PCIe\n");
    fake.file(&at(GPU, "max_link_width"), "16\n");
    let (function, detail) = read(&fake, GPU);
    let link = Link { speed: 25, width: 8, max_speed: 160, max_width: 16 };
    assert_eq!((detail.link, detail.flr), (Some(link), None));
    assert_eq!(function.notes, ["only 64 bytes of configuration space can be read without root"]);
}

#[test]
fn a_function_that_sleeps_is_not_woken() {
    let fake = machine();
    fake.file(&at(GPU, "config"), space(4096, &[(0x40, 0x0002_0010)]));
    fake.file(&at(GPU, "power/runtime_status"), "suspended\n");
    let (function, detail) = read(&fake, GPU);
    assert_eq!((detail.port_type, detail.vf_count), (None, Some(1)));
    assert_eq!(function.notes, ["power state suspended: configuration space was not read"]);
    // Only this function's configuration space is left out.
    assert_eq!(detail.candidate_drivers, ["nouveau", "nova_core", "nvidia"]);
}

#[test]
fn a_function_that_fell_off_the_bus_is_reported() {
    let fake = machine();
    fake.file(&at(GPU, "config"), [0xff; 4096]);
    let (function, detail) = read(&fake, GPU);
    assert_eq!(detail.capabilities, [""; 0]);
    assert_eq!(function.notes, ["its configuration space reads as all ones: it does not respond"]);
}

/// The ids of a virtual function read all ones in configuration space.
#[test]
fn a_virtual_function_is_there() {
    let fake = machine();
    let express = [(0x00, 0xffff_ffff), (0x04, 0x0010_0000), (0x34, 0x40), (0x40, 0x0002_0010)];
    fake.file(&at(GPU, "config"), space(4096, &express));
    let (function, detail) = read(&fake, GPU);
    assert_eq!((detail.capabilities, function.notes), (vec!["PCIe".to_owned()], vec![]));
}

#[test]
fn partitions_that_could_be_made_are_read() {
    let fake = machine();
    let kind = at(GPU, "mdev_supported_types/nvidia-474");
    fake.file(&format!("{kind}/name"), "NVIDIA A100-4C\n");
    fake.file(&format!("{kind}/available_instances"), "10\n");
    fake.file(&format!("{kind}/device_api"), "vfio-pci\n");
    fake.file(&format!("{kind}/description"), "num_heads=1, framebuffer=4096M\n");
    fake.file(&at(GPU, "mdev_supported_types/odd/available_instances"), "many\n");
    let types = read(&fake, GPU).1.mdev_types;
    let expected = MdevType {
        id: "nvidia-474".into(),
        name: Some("NVIDIA A100-4C".into()),
        available: Some(10),
        device_api: Some("vfio-pci".into()),
        description: Some("num_heads=1, framebuffer=4096M".into()),
    };
    assert_eq!((types.len(), &types[0]), (2, &expected));
    assert_eq!((types[1].id.as_str(), types[1].available), ("odd", None));

    fake.file(&at(VF, "nvidia/current_vgpu_type"), "0\n");
    fake.file(
        &at(VF, "nvidia/creatable_vgpu_types"),
        "ID    : vGPU Name\n1155  : NVIDIA L40S-1Q\n",
    );
    fake.file(&at(VF, "config"), space(4096, &[(0x40, 0x0002_0010)]));
    let detail = read(&fake, VF).1;
    let one = VgpuType { id: 1155, name: "NVIDIA L40S-1Q".into() };
    assert_eq!(detail.vgpu, Some(VgpuTypes { current: None, creatable: vec![one] }));
    assert_eq!(detail.flr, Some(true), "a virtual function can always reset itself");
    fake.file(&at(VF, "nvidia/current_vgpu_type"), "1155\n");
    assert_eq!(read(&fake, VF).1.vgpu.unwrap().current, Some(1155));
}

#[test]
fn instances_of_a_gpu_in_mig_mode_are_read() {
    let fake = machine();
    fake.file(&format!("proc/driver/nvidia/gpus/{GPU}/information"), "Device Minor: \t 3\n");
    assert_eq!(read(&fake, GPU).1.mig, []);
    let mig = "proc/driver/nvidia/capabilities/gpu3/mig";
    for (instance, text) in [
        ("gi10", "DeviceFileMinor: 93\nDeviceFileMode: 292\nDeviceFileModify: 1\n"),
        ("gi2", "DeviceFileMinor: 21\n"),
        ("gi2/ci1", "DeviceFileMinor: 23\n"),
        ("gi2/ci0", "DeviceFileMinor: 22\n"),
        ("gi3", "DeviceFileMinor: many\n"),
        ("gix", "DeviceFileMinor: 1\n"),
    ] {
        fake.file(&format!("{mig}/{instance}/access"), text);
    }
    // Another GPU has the number 0.
    fake.file("proc/driver/nvidia/capabilities/gpu0/mig/gi1/access", "DeviceFileMinor: 12\n");
    let mig = read(&fake, GPU).1.mig;
    let shown = |one: &MigInstance| (one.gpu_instance, one.compute_instance, one.capability);
    let all: Vec<_> = mig.iter().map(shown).collect();
    assert_eq!(all, [(2, None, 21), (2, Some(0), 22), (2, Some(1), 23), (10, None, 93)]);
    assert_eq!(mig[0].path(), "/dev/nvidia-caps/nvidia-cap21");
    assert_eq!(read(&fake, VF).1.mig, []);
}

#[test]
fn the_detail_of_all_is_read_when_none_is_named() {
    let inventory = LinuxHost::reader(machine().root()).unwrap().detail(None).unwrap();
    assert_eq!(inventory.functions.len(), 3);
    assert!(inventory.functions.values().all(|function| function.detail.is_some()));
}

/// The attributes that detail reads.
const ATTRIBUTES: [&str; 7] = [
    "config",
    "driver_override",
    "sriov_numvfs",
    "nvidia/current_vgpu_type",
    "nvidia/creatable_vgpu_types",
    "mdev_supported_types",
    "power/runtime_status",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_attribute_stops_the_others(
        contents in proptest::collection::vec(
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..5000)),
            ATTRIBUTES.len(),
        ),
    ) {
        let fake = machine();
        for (name, content) in ATTRIBUTES.iter().zip(contents) {
            match content {
                Some(bytes) => { fake.file(&at(GPU, name), bytes); }
                None => {
                    let _ = std::fs::remove_file(fake.path(&at(GPU, name)));
                    std::fs::create_dir_all(fake.path(&at(GPU, name))).unwrap();
                }
            }
        }
        let inventory = LinuxHost::reader(fake.root()).unwrap().detail(None).unwrap();
        prop_assert_eq!(inventory.functions.len(), 3);
        let gpu = inventory.function(GPU.parse().unwrap()).unwrap();
        prop_assert_eq!(&gpu.detail.as_ref().unwrap().candidate_drivers, &["nouveau", "nova_core", "nvidia"]);
    }
}
