//! What the kernel tells of its devices is what is said, and the daemon's inventory is the one that a fresh reading gives.

use crate::support::{Host, wanted};
use serde_json::Value;

/// The igb of the `server` topology.
const DRIVER: &str = "igb";

/// Begins to watch, and waits until it does.
fn watch(host: &Host) {
    host.sh(
        "setsid handover watch --json >>/tmp/watch.json 2>/tmp/watch.err </dev/null & echo $! >/tmp/watch.pid
         for i in $(seq 200); do grep -q following /tmp/watch.err && exit 0; sleep 0.05; done; cat /tmp/watch.err; exit 1",
    );
}

/// What was said of a function since the last question, in words, once nothing more is said.
fn said(host: &Host, address: &str) -> Vec<String> {
    let script = format!(
        "size=-1; while [ $size != $(stat -c %s /tmp/watch.json) ]; do size=$(stat -c %s /tmp/watch.json); sleep 1; done
         jq -r 'select(.address == \"{address}\") | .words' /tmp/watch.json"
    );
    let words = host.sh(&script).lines().map(str::to_owned).collect();
    host.sh(": >/tmp/watch.json");
    words
}

/// The inventory without what the kernel changes without a word.
fn inventory(host: &Host, path: &str) -> Value {
    let mut inventory = host.get(path);
    for function in inventory["functions"].as_object_mut().unwrap().values_mut() {
        function["power"] = Value::Null;
        if let Some(sriov) = function["sriov"].as_object_mut() {
            sriov.remove("autoprobe");
        }
    }
    inventory
}

fn agree(host: &Host, what: &str) {
    let (known, fresh) = (inventory(host, "/inventory"), inventory(host, "/inventory?fresh=true"));
    for (address, function) in fresh["functions"].as_object().unwrap() {
        assert_eq!(&known["functions"][address], function, "{what}");
    }
    assert_eq!(known, fresh, "{what}");
}

#[test]
fn what_the_kernel_tells_is_said_and_kept() {
    if !wanted() {
        return;
    }
    let host = Host::boot("server");
    let nic =
        host.sh(&format!("basename $(ls -d /sys/bus/pci/drivers/{DRIVER}/0000:* | head -n1)"));
    let nic = nic.trim();
    let interface = host.sh(&format!("ls /sys/bus/pci/devices/{nic}/net"));
    let interface = interface.trim();
    let group = host.sh(&format!("basename $(readlink /sys/bus/pci/devices/{nic}/iommu_group)"));
    let group = group.trim();
    host.serve("");
    watch(&host);
    agree(&host, "at the start");

    let device = format!("/sys/bus/pci/devices/{nic}");
    host.sh(&format!("echo {nic} >{device}/driver/unbind"));
    let expected =
        [format!("network interface {interface} gone"), format!("driver {DRIVER} -> none")];
    assert_eq!(said(&host, nic), expected);
    agree(&host, "without a driver");

    host.sh(&format!(
        "modprobe vfio-pci; echo vfio-pci >{device}/driver_override; echo {nic} >/sys/bus/pci/drivers_probe"
    ));
    let words = said(&host, nic);
    assert!(words.contains(&format!("VFIO group /dev/vfio/{group} appeared")), "{words:?}");
    assert!(words.contains(&"bound to vfio-pci".to_owned()), "{words:?}");
    agree(&host, "on vfio-pci");

    host.sh(&format!(
        "echo {nic} >{device}/driver/unbind; echo >{device}/driver_override; echo {nic} >/sys/bus/pci/drivers_probe"
    ));
    let words = said(&host, nic);
    assert!(words.contains(&format!("VFIO group /dev/vfio/{group} gone")), "{words:?}");
    assert!(words.iter().any(|words| words.starts_with("network interface")), "{words:?}");
    agree(&host, "back with its driver");

    host.sh(&format!("echo 0 >{device}/sriov_drivers_autoprobe; echo 2 >{device}/sriov_numvfs"));
    let first = host.sh(&format!("basename $(readlink {device}/virtfn0)"));
    agree(&host, "with virtual functions");
    host.sh(&format!("echo 0 >{device}/sriov_numvfs"));
    let all = host.sh("cat /tmp/watch.json");
    let of_first = said_of(&all, first.trim());
    assert_eq!(
        of_first.first().map(String::as_str),
        Some(&*format!("appeared, a virtual function of {nic}"))
    );
    assert_eq!(of_first.last().map(String::as_str), Some("gone"), "{of_first:?}");
    let of_nic = said(&host, nic);
    assert!(of_nic.last().unwrap().ends_with("-> 0"), "{of_nic:?}");
    agree(&host, "without virtual functions");

    host.sh(&format!("echo 1 >{device}/remove"));
    assert_eq!(said(&host, nic).last().map(String::as_str), Some("gone"));
    agree(&host, "without the function");
    host.sh("echo 1 >/sys/bus/pci/rescan; udevadm settle 2>/dev/null; sleep 1");
    let words = said(&host, nic);
    assert_eq!(words.first().map(String::as_str), Some("appeared"));
    assert!(words.contains(&format!("bound to {DRIVER}")), "{words:?}");
    agree(&host, "found again");

    let log = host.log();
    let tells = |line: &str| line.contains(nic) && line.ends_with(": gone");
    assert!(log.lines().any(tells), "the log does not tell of it:\n{log}");
    host.sh("kill -INT $(</tmp/watch.pid); while kill -0 $(</tmp/watch.pid) 2>/dev/null; do sleep 0.05; done");
}

fn said_of(lines: &str, address: &str) -> Vec<String> {
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of = lines.filter(|line| line["address"] == address);
    of.map(|line| line["words"].as_str().unwrap().to_owned()).collect()
}
