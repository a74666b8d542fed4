//! A machine whose devices are on several NUMA nodes of the host: the guest has these nodes, and sees its devices on them.

use serde_json::{Value, json};

use crate::claims::{GPU, snapshot};
use crate::support::{Host, IGB, wanted};

/// A GPU on the second node that offers mediated devices.
const MDEV_GPU: &str = "0000:44:00.0";

#[test]
fn a_guest_sees_its_devices_on_their_nodes() {
    if !wanted() {
        return;
    }
    let host = Host::shared("server");
    host.serve("");
    host.import_guest("guest", "handover.stay=1");
    let before = snapshot(&host);
    host.sh(&format!(
        "handover instance create two --image guest --size 512MB --vcpus 2 --device {GPU} --device {IGB} \
         --device profile=labgpu-475@{MDEV_GPU}"
    ));
    let report = host.guest_report("two");
    let machine = host.get("/instances/two");
    let of = |node: u32| json!({ "node": node, "vcpus": 1, "size": "256MB" });
    assert_eq!(machine["placed"]["nodes"], json!([of(0), of(1)]), "{machine:#}");
    let has_iommufd = host.sh("ls /dev").lines().any(|name| name == "iommu");
    let access = if has_iommufd { "descriptors" } else { "groups" };
    assert_eq!(machine["device_access"], access, "a mediated device too");
    for device in machine["attached"].as_array().unwrap() {
        let text = |name: &str| device[name].as_str().unwrap_or_default().to_owned();
        let (there, guest) = (text("pci_address"), text("guest_address"));
        let on_host = host.sh(&format!("cat /sys/bus/pci/devices/{there}/numa_node"));
        let line = report.lines().find(|line| line.contains(&format!("pci {guest} ")));
        let line = line.unwrap_or_else(|| panic!("{guest}: {report}"));
        let seen = line.split_whitespace().find_map(|word| word.strip_prefix("node="));
        assert_eq!(seen.unwrap_or("-1"), on_host.trim(), "{there}: {line}");
    }
    let shown = host.sh("handover instance show two");
    assert!(shown.contains("NUMA nodes 0 1"), "{shown}");
    a_device_leaves_and_comes_back(&host);
    host.sh("handover instance rm two; handover image rm guest");
    let left = host.get("/instances");
    assert_eq!(left, Value::Array(Vec::new()));
    assert_eq!(snapshot(&host), before, "nothing is left");
}

/// Behind such a root complex, devices are plugged by PCIe's own hot-plug. The GPU gets the port of its node again.
fn a_device_leaves_and_comes_back(host: &Host) {
    let address = || {
        let machine = host.get("/instances/two");
        let mut devices = machine["attached"].as_array().unwrap().iter();
        let gpu = devices.find(|device| device["pci_address"] == GPU);
        gpu.map(|gpu| gpu["guest_address"].clone())
    };
    let before = address();
    host.sh(&format!("handover instance detach two {GPU} --timeout 60s"));
    assert_eq!(address(), None);
    host.sh(&format!("handover instance attach two {GPU}"));
    assert_eq!(address(), before);
}
