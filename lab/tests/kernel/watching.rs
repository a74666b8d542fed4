//! The kernel's uevents are reported, and the daemon's inventory equals a fresh read.

use std::time::{Duration, Instant};

use crate::support::{Host, wanted};
use serde_json::Value;

/// How long a report may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The igb of the `server` topology.
const DRIVER: &str = "igb";

/// Starts watching, and waits until it is active.
fn watch(host: &Host) {
    host.sh(
        "setsid handover watch --json >>/tmp/watch.json 2>/tmp/watch.err </dev/null & echo $! >/tmp/watch.pid
         for i in $(seq 200); do grep -q ^watching /tmp/watch.err && exit 0; sleep 0.05; done; cat /tmp/watch.err; exit 1",
    );
}

/// The reports about a function since the last call, as text, once they are `enough`. Uevents and an emulated processor
/// take time.
fn said(host: &Host, address: &str, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    let words = said_so_far(host, address, enough);
    host.sh(": >/tmp/watch.json");
    words
}

/// The same, without waiting.
fn said_so_far(host: &Host, address: &str, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    let script = format!("jq -r 'select(.address == \"{address}\") | .words' /tmp/watch.json");
    let mut words = Vec::new();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && !enough(&words) {
        words = host.sh(&script).lines().map(str::to_owned).collect();
    }
    assert!(enough(&words), "this is not all that was to be said of {address}: {words:?}");
    words
}

/// Whether one of them begins like this.
fn begins(words: &[String], beginning: &str) -> bool {
    words.iter().any(|word| word.starts_with(beginning))
}

/// Whether the last is this.
fn last_is(words: &[String], last: &str) -> bool {
    words.last().is_some_and(|word| word == last)
}

/// The inventory without attributes that change without a uevent.
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

/// Waits until the daemon's inventory equals a fresh read.
fn agree(host: &Host, what: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let (known, fresh) =
            (inventory(host, "/inventory"), inventory(host, "/inventory?fresh=true"));
        if known == fresh {
            return;
        }
        if Instant::now() < until {
            continue;
        }
        for (address, function) in fresh["functions"].as_object().unwrap() {
            assert_eq!(&known["functions"][address], function, "{what}");
        }
        for part in fresh.as_object().unwrap().keys() {
            assert_eq!(known[part], fresh[part], "{part} {what}");
        }
        assert_eq!(known, fresh, "{what}");
    }
}

#[test]
fn uevents_are_printed_and_kept() {
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
    assert_eq!(said(&host, nic, |words| words.len() >= expected.len()), expected);
    agree(&host, "without a driver");

    host.sh(&format!(
        "modprobe vfio-pci; echo vfio-pci >{device}/driver_override; echo {nic} >/sys/bus/pci/drivers_probe"
    ));
    let appeared = format!("VFIO group /dev/vfio/{group} appeared");
    said(&host, nic, |words| begins(words, &appeared) && begins(words, "bound to vfio-pci"));
    agree(&host, "on vfio-pci");

    host.sh(&format!(
        "echo {nic} >{device}/driver/unbind; echo >{device}/driver_override; echo {nic} >/sys/bus/pci/drivers_probe"
    ));
    let gone = format!("VFIO group /dev/vfio/{group} gone");
    said(&host, nic, |words| begins(words, &gone) && begins(words, "network interface"));
    agree(&host, "back with its driver");

    host.sh(&format!("echo 0 >{device}/sriov_drivers_autoprobe; echo 2 >{device}/sriov_numvfs"));
    let first = host.sh(&format!("basename $(readlink {device}/virtfn0)"));
    agree(&host, "with virtual functions");
    host.sh(&format!("echo 0 >{device}/sriov_numvfs"));
    let of_first = said_so_far(&host, first.trim(), |words| last_is(words, "gone"));
    assert!(of_first.first().is_some_and(|word| word.starts_with("appeared")), "{of_first:?}");
    // With its first word, or after it, as fast as the kernel linked it.
    let child = format!("a virtual function of {nic}");
    assert!(of_first.iter().any(|word| word.ends_with(&child)), "{of_first:?}");
    said(&host, nic, |words| words.last().is_some_and(|word| word.ends_with("-> 0")));
    agree(&host, "without virtual functions");

    host.sh(&format!("echo 1 >{device}/remove"));
    said(&host, nic, |words| last_is(words, "gone"));
    agree(&host, "without the function");
    host.sh("echo 1 >/sys/bus/pci/rescan");
    let words = said(&host, nic, |words| begins(words, &format!("bound to {DRIVER}")));
    assert_eq!(words.first().map(String::as_str), Some("appeared"), "{words:?}");
    agree(&host, "found again");

    let log = host.log();
    let tells = |line: &str| line.contains(nic) && line.ends_with(": gone");
    assert!(log.lines().any(tells), "the log does not tell of it:\n{log}");
    host.sh("kill -INT $(</tmp/watch.pid); while kill -0 $(</tmp/watch.pid) 2>/dev/null; do sleep 0.05; done");
}
