//! The listing of a fake host.
#![allow(clippy::unwrap_used)]

mod fake;

use fake::Fake;
use host::LinuxHost;
use model::{Address, Host, Inventory};
use proptest::prelude::*;

fn read(fake: &Fake) -> Inventory {
    LinuxHost::reader(fake.root()).unwrap().inventory().unwrap()
}

/// A GPU with audio behind a root port, a NIC with VFs, an NVMe drive with two namespaces, a SATA controller, and a
/// drive in a VMD domain.
fn workstation() -> Fake {
    let fake = Fake::new();
    fake.function("0000:00:01.0", "8086:1901", "060400").driver("pcieport").group(1);
    fake.function("0000:00:01.0/0000:01:00.0", "10de:20b0:10de:1450", "030200")
        .group(1)
        .driver("nvidia")
        .with("boot_vga", "1\n")
        .with("numa_node", "1\n")
        .with("reset_method", "flr bus\n")
        .with("power_state", "D0\n")
        .with("power/runtime_status", "active\n")
        .with("d3cold_allowed", "1\n")
        .node("drm/renderD128", "char", "226:128")
        .node("drm/card1", "char", "226:1")
        .with(
            "resource",
            "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n\
             0x0000380000000000 0x0000380fffffffff 0x000000000014220c\n",
        );
    what_nvidia_made(&fake);
    fake.function("0000:00:01.0/0000:01:00.1", "10de:1aef:10de:1450", "040300").group(1).node(
        "sound/card0/pcmC0D3p",
        "char",
        "116:2",
    );
    fake.function("0000:00:02.0", "8086:10c9:8086:a03c", "020000")
        .group(2)
        .driver("igb")
        .with("sriov_totalvfs", "7\n")
        .link("virtfn0", "../0000:00:10.0")
        .link("virtfn10", "../0000:00:10.2")
        .link("virtfn2", "../0000:00:10.1")
        .interface("net/enp0s2");
    for function in 0..3 {
        fake.function(&format!("0000:00:10.{function}"), "8086:10ca:8086:a03c", "020000")
            .group(10 + function)
            .link("physfn", "../0000:00:02.0");
    }
    fake.function("0000:00:03.0", "1b36:0010:1af4:1100", "010802")
        .group(3)
        .driver("nvme")
        .disk("nvme/nvme0/nvme0n1", "259:0")
        .disk("nvme/nvme0/nvme0n1/nvme0n1p1", "259:1")
        .hidden("nvme/nvme0/nvme0c0n2")
        .with("nvme/nvme0/hwmon1/name", "nvme\n");
    fake.function("0000:00:1f.2", "8086:2922", "010601")
        .group(4)
        .driver("ahci")
        .disk("ata1/host0/target0:0:0/0:0:0:0/block/sda", "8:0");
    fake.function("0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0", "1b36:0010", "010802");
    fake.virtual_device("virtual/nvme-subsystem/nvme-subsys0/nvme0n2", "block", "259:9");
    fake.function("0000:00:04.0", "8086:10d3", "020000").group(20).driver("vfio-pci").node(
        "vfio-dev/vfio0",
        "char",
        "511:0",
    );
    fake.virtual_device("virtual/vfio/20", "char", "241:0");
    system(&fake);
    fake
}

/// NVIDIA's own numbering, and a mediated device with its node.
fn what_nvidia_made(fake: &Fake) {
    fake.file(
        "proc/driver/nvidia/gpus/0000:01:00.0/information",
        "Model: \t A100\nDevice Minor: \t 1\n",
    );
    let uuid = "4b20d080-1b54-4048-85b3-a6a62d165c01";
    let gpu = "../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    fake.link(&format!("sys/bus/mdev/devices/{uuid}"), &format!("{gpu}/{uuid}"));
    let mdev = format!("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/{uuid}");
    fake.link(&format!("{mdev}/mdev_type"), "../mdev_supported_types/nvidia-474");
    fake.link(&format!("{mdev}/iommu_group"), "../../../../../kernel/iommu_groups/40");
    fake.file("sys/kernel/iommu_groups/40/type", "unknown\n");
    let devices = "sys/kernel/iommu_groups/40/devices";
    fake.link(&format!("{devices}/{uuid}"), &format!("../../../../{mdev}"));
    // A group whose last device was just removed.
    fake.file("sys/kernel/iommu_groups/41/type", "unknown\n");
    fake.file(&format!("{mdev}/vfio-dev/vfio7/dev"), "511:7\n");
    let node = format!("../..{}/vfio-dev/vfio7", mdev.trim_start_matches("sys"));
    fake.link("sys/dev/char/511:7", &node);
}

/// NUMA nodes, an IOMMU, the kernel's modules, and names.
fn system(fake: &Fake) {
    for (node, cpus, socket) in [(0, "0-1", 0), (1, "2-3", 1)] {
        let path = format!("sys/devices/system/node/node{node}");
        fake.file(&format!("{path}/cpulist"), format!("{cpus}\n"));
        fake.file(&format!("{path}/distance"), if node == 0 { "10 21\n" } else { "21 10\n" });
        fake.file(&format!("{path}/meminfo"), format!("Node {node} MemTotal:  4096 kB\n"));
        for cpu in [node * 2, node * 2 + 1] {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            fake.file(&format!("{path}/physical_package_id"), format!("{socket}\n"));
        }
    }
    fake.link("sys/class/iommu/dmar0", "../../devices/virtual/iommu/dmar0");
    fake.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n");
    let modules = "lib/modules/6.1.0-test";
    fake.file(
        &format!("{modules}/modules.dep"),
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n",
    );
    fake.file(&format!("{modules}/modules.builtin"), "kernel/drivers/vfio/vfio_iommu_type1.ko\n");
    fake.file(
        &format!("{modules}/modules.alias"),
        "alias pci:v000010DEd*sv*sd*bc03sc*i* nvidia\n\
         alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n\
         alias vfio_pci:v000010DEd000020B0sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n",
    );
    fake.file(
        "usr/share/misc/pci.ids",
        "10de  NVIDIA Corporation\n\t20b0  GA100 [A100 SXM4 40GB]\n8086  Intel Corporation\n",
    );
}

#[test]
fn a_whole_host_is_read() {
    insta::assert_json_snapshot!(read(&workstation()));
}

#[test]
fn some_functions_are_shown_as_among_all() {
    let fake = workstation();
    let host = LinuxHost::reader(fake.root()).unwrap();
    let all = host.inventory().unwrap();
    let asked: Vec<Address> = all.functions.keys().copied().collect();
    let some = host.functions(&asked).unwrap();
    assert_eq!(some.functions.keys().copied().collect::<Vec<_>>(), asked);
    for (address, mut function) in all.functions {
        function.sriov = some.function(address).and_then(|function| function.sriov.clone());
        function.nodes = model::Nodes {
            vfio_group: function.nodes.vfio_group,
            vfio_device: function.nodes.vfio_device,
            ..model::Nodes::default()
        };
        assert!(!asked.contains(&address) || some.functions[&address] == function, "{address}");
    }
    let gone = "0000:7f:00.0".parse().unwrap();
    assert!(host.functions(&[gone]).unwrap().functions.is_empty());
}

#[test]
fn ids_are_read_one_by_one_where_the_modalias_is_missing_or_garbage() {
    let fake = workstation();
    let gpu: Address = "0000:01:00.0".parse().unwrap();
    let before = read(&fake).function(gpu).unwrap().clone();
    let modalias = fake.path("sys/bus/pci/devices/0000:01:00.0/modalias");
    std::fs::write(&modalias, "garbage\n").unwrap();
    let mut function = read(&fake).function(gpu).unwrap().clone();
    assert_eq!(std::mem::take(&mut function.notes), ["cannot parse modalias: \"garbage\""]);
    assert_eq!(function, before);
    std::fs::remove_file(&modalias).unwrap();
    assert_eq!(read(&fake).function(gpu), Some(&before));
}

#[test]
fn a_gpu_newer_than_the_names_is_called_what_its_driver_calls_it() {
    let fake = Fake::new();
    for (address, model) in [("0000:01:00.0", "NVIDIA H200"), ("0000:02:00.0", "Unknown")] {
        let id = if model == "Unknown" { "10de:2336" } else { "10de:2335" };
        fake.function(address, id, "030200").driver("nvidia");
        let information = format!("Model: \t\t {model}\nDevice Minor: \t 0\n");
        fake.file(&format!("proc/driver/nvidia/gpus/{address}/information"), information);
    }
    let titles = |host: &LinuxHost| -> Vec<String> {
        host.inventory().unwrap().functions.values().map(model::Function::title).collect()
    };
    let host = LinuxHost::reader(fake.root()).unwrap();
    assert_eq!(titles(&host), ["NVIDIA Corporation H200", "NVIDIA Corporation 2336"]);
    // While a machine uses it, NVIDIA's driver does not report it, and its name is cached.
    std::fs::remove_file(fake.path("sys/bus/pci/devices/0000:01:00.0/driver")).unwrap();
    assert_eq!(titles(&host), ["NVIDIA Corporation H200", "NVIDIA Corporation 2336"]);
    assert_eq!(titles(&LinuxHost::reader(fake.root()).unwrap()), ["10de:2335", "10de:2336"]);
}

#[test]
fn an_overview_has_all_that_assemblies_and_their_state_need() {
    let fake = workstation();
    let host = LinuxHost::reader(fake.root()).unwrap();
    let (rows, holders) = host.overview().unwrap();
    let listing = host.inventory().unwrap();
    assert_eq!(
        holders,
        host.holders(&listing.functions.keys().copied().collect::<Vec<_>>()).unwrap()
    );
    assert_eq!((&rows.vfio, &rows.numa_nodes), (&listing.vfio, &listing.numa_nodes));
    for (address, function) in &listing.functions {
        let row = rows.function(*address).unwrap();
        let of = |f: &model::Function| {
            (f.title(), f.subsystem_device, f.class, f.revision, f.driver.clone(), f.on_vfio())
        };
        assert_eq!(of(row), of(function));
        let place = |f: &model::Function| (f.iommu_group, f.numa_node, f.physical_function);
        assert_eq!(place(row), place(function));
        assert_eq!(row.virtual_functions(), function.virtual_functions());
        let assembly = |inventory| {
            let assembly = model::Assembly::of(inventory, *address).unwrap();
            (assembly.obstacles(inventory), assembly)
        };
        assert_eq!(assembly(&rows), assembly(&listing));
    }
}

#[test]
fn a_host_without_anything_is_no_error_but_one_without_a_bus_is() {
    let fake = Fake::new();
    assert_eq!(read(&fake), Inventory::default());
    std::fs::remove_dir(fake.path("sys/bus/pci/devices")).unwrap();
    let error = LinuxHost::reader(fake.root()).unwrap().inventory().unwrap_err().to_string();
    assert!(error.contains("sys/bus/pci/devices: No such file"), "{error}");
}

#[test]
fn nothing_that_locks_or_wakes_is_touched() {
    let fake = workstation();
    let gpu = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    for name in ["uevent", "config", "sriov_numvfs", "driver_override"] {
        let path = fake.path(&format!("{gpu}/{name}"));
        let _ = std::fs::remove_file(&path);
        std::fs::create_dir(&path).unwrap();
    }
    let gpu: Address = "0000:01:00.0".parse().unwrap();
    assert_eq!(read(&fake).function(gpu).unwrap().notes, Vec::<String>::new());
}

#[test]
fn a_module_index_that_changed_is_read_again() {
    let fake = workstation();
    let host = LinuxHost::reader(fake.root()).unwrap();
    assert!(host.inventory().unwrap().vfio.vfio_pci);
    fake.file("lib/modules/6.1.0-test/modules.dep", "kernel/none.ko:\n");
    std::fs::remove_dir_all(fake.path("sys/bus/pci/drivers/vfio-pci")).unwrap();
    assert!(!host.inventory().unwrap().vfio.vfio_pci);
    fake.file("sys/module/vfio_pci/refcnt", "0\n");
    assert!(host.inventory().unwrap().vfio.vfio_pci);
}

#[test]
fn settings_to_be_restored_are_read() {
    let fake = workstation();
    let gpu = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    fake.file(&format!("{gpu}/power/control"), "auto\n");
    let mut config = vec![0; 4096];
    config[0x100..0x10c].copy_from_slice(&[3, 0, 1, 0, 1, 0, 0, 0, 0xff, 0x22, 0x11, 0]);
    fake.file(&format!("{gpu}/config"), config);
    let host = LinuxHost::reader(fake.root()).unwrap();
    let address = "0000:01:00.0".parse().unwrap();
    insta::assert_json_snapshot!(host.as_found(&[address]).unwrap());
    let gone = "0000:7f:00.0".parse().unwrap();
    let error = host.as_found(&[address, gone]).unwrap_err();
    assert_eq!(error, model::HostError::Gone { address: gone });
}

#[test]
fn capacity_is_read() {
    let fake = Fake::new();
    fake.file("sys/devices/system/cpu/online", "0-2,7\n");
    fake.file("proc/meminfo", "MemTotal:   1024 kB\nMemFree: 1 kB\nMemAvailable:    512 kB\n");
    let capacity = LinuxHost::reader(fake.root()).unwrap().capacity().unwrap();
    let expected = model::Capacity { cpus: 4, memory: 1 << 20, memory_available: 512 << 10 };
    assert_eq!(capacity, expected);
}

/// The attributes that a listing reads.
const ATTRIBUTES: [&str; 16] = [
    "modalias",
    "power_state",
    "power/runtime_status",
    "d3cold_allowed",
    "reset",
    "vendor",
    "device",
    "subsystem_vendor",
    "subsystem_device",
    "class",
    "revision",
    "numa_node",
    "boot_vga",
    "resource",
    "reset_method",
    "sriov_totalvfs",
];

/// The contents of an attribute.
#[derive(Clone, Debug)]
enum Odd {
    Missing,
    Bytes(Vec<u8>),
    Directory,
    Fifo,
    Dangling,
}

fn odd() -> impl Strategy<Value = Odd> {
    prop_oneof![
        Just(Odd::Missing),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(Odd::Bytes),
        "(0x)?[0-9a-f]{0,20}( 0x[0-9a-f]{0,17}){0,3}\n".prop_map(|t| Odd::Bytes(t.into_bytes())),
        Just(Odd::Bytes(vec![b'9'; 70_000])),
        Just(Odd::Directory),
        Just(Odd::Fifo),
        Just(Odd::Dangling),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_attribute_loses_a_function(odds in proptest::collection::vec(odd(), ATTRIBUTES.len()), links in proptest::collection::vec("[^/\0]{1,20}", 4)) {
        let fake = workstation();
        let before = read(&fake);
        let gpu = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
        for (name, odd) in ATTRIBUTES.iter().zip(odds) {
            let path = format!("{gpu}/{name}");
            let _ = std::fs::remove_file(fake.path(&path));
            match odd {
                Odd::Missing => {}
                Odd::Bytes(bytes) => { fake.file(&path, bytes); }
                Odd::Directory => std::fs::create_dir(fake.path(&path)).unwrap(),
                Odd::Fifo => { fake.fifo(&path); }
                Odd::Dangling => { fake.link(&path, "nowhere"); }
            }
        }
        for (name, target) in ["driver", "iommu_group", "physfn", "virtfn0"].iter().zip(links) {
            fake.link(&format!("{gpu}/{name}"), &format!("../{target}"));
        }
        let after = read(&fake);
        prop_assert!(before.functions.keys().eq(after.functions.keys()));
        let address: Address = "0000:01:00.0".parse().unwrap();
        for (other, function) in before.functions.iter().filter(|(other, _)| **other != address) {
            prop_assert_eq!(function, &after.functions[other]);
        }
    }
}

#[test]
fn a_sketch_leaves_out_only_what_choosing_has_no_need_of() {
    let fake = workstation();
    let host = LinuxHost::reader(fake.root()).unwrap();
    let mut whole = host.inventory().unwrap();
    let mut sketch = host.sketch().unwrap();
    let addresses: Vec<Address> = whole.functions.keys().copied().collect();
    assert!(whole.functions.values().any(|function| function.power.state.is_some()));
    host.complete(&mut sketch, &addresses);
    for (address, function) in &sketch.functions {
        assert_eq!(function.power, whole.functions[address].power, "{address}");
        assert!(function.detail.is_some(), "{address}");
    }
    for function in whole.functions.values_mut() {
        function.nodes = model::Nodes::default();
    }
    for function in sketch.functions.values_mut() {
        function.detail = None;
    }
    for group in whole.groups.values_mut() {
        group.domain_type = None;
    }
    assert_eq!(sketch.functions, whole.functions);
    assert_eq!(sketch.vfio, whole.vfio);
    for (number, group) in &sketch.groups {
        assert_eq!(group, &whole.groups[number]);
    }
}
