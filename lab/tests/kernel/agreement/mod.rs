//! The inventory agrees with other readers of the same host: lspci, a small script that reads sysfs, and libvirt.
//!
//! Each reader returns named texts for each function. Ours must contain all texts of the others, with the same values.

mod lspci;
mod ours;
mod sysfs;
mod virsh;

use std::collections::{BTreeMap, BTreeSet};

use lab::{Options, images::Choice};

use crate::commands;
use crate::support::{Host, wanted};

/// The result of a reader: named texts for each function. A missing text is unknown to the reader.
pub type Facts = BTreeMap<String, BTreeMap<&'static str, String>>;

/// The value for "none".
pub const NONE: &str = "none";

/// Every difference of `ours` from `other`.
fn differences(ours: &Facts, other: &Facts) -> Vec<String> {
    let mut differences = Vec::new();
    let addresses: BTreeSet<&String> = ours.keys().chain(other.keys()).collect();
    for address in addresses {
        let (Some(own), Some(theirs)) = (ours.get(address), other.get(address)) else {
            differences.push(format!("{address}: only one of both has it"));
            continue;
        };
        for (name, text) in theirs {
            let own = own.get(name).map_or("(not told)", String::as_str);
            if own != text {
                differences.push(format!("{address}: {name} is {text}, ours is {own}"));
            }
        }
    }
    differences
}

/// The number of compared texts: an empty reader agrees with everything.
fn texts(facts: &Facts) -> usize {
    facts.values().map(BTreeMap::len).sum()
}

/// Every difference on this host between the inventory and one reader, which must return that many texts per function.
fn compare_with(
    ours: &Facts,
    what: &str,
    reader: &str,
    other: &Facts,
    least: usize,
) -> Vec<String> {
    assert!(other.len() > 10, "{what}: {reader} sees {} functions only", other.len());
    assert!(texts(other) > other.len() * least, "{what}: {reader} tells too little");
    println!("{what}: {} texts of {reader}", texts(other));
    let differences = differences(ours, other);
    differences.into_iter().map(|text| format!("{what}, {reader}: {text}")).collect()
}

/// lspci and libvirt wake suspended functions; Handover does not, and has no detail then.
fn awake(host: &Host) {
    host.sh("for d in /sys/bus/pci/devices/*; do echo on >$d/power/control; done");
}

/// The facts with all functions on the host's only node, if it has one. Firmware need not name it, and then other readers
/// show none; Handover knows where the functions are.
fn placed(host: &Host, mut facts: Facts) -> Facts {
    let only = host.sh(
        "cd /sys/devices/system/node && set -- node[0-9]* && if [ $# = 1 ]; then echo ${1#node}; fi",
    );
    let only = only.trim();
    for texts in facts.values_mut() {
        if let Some(numa) = texts.get_mut("numa")
            && numa == NONE
            && !only.is_empty()
        {
            only.clone_into(numa);
        }
    }
    facts
}

/// Every difference on this host.
fn compare(host: &Host, what: &str) -> Vec<String> {
    awake(host);
    let ours = ours::read(host);
    let readers = [
        ("lspci", placed(host, lspci::read(host)), 8),
        ("the script", placed(host, sysfs::read(host)), 12),
        ("handover ls", ours::listed(host), 2),
    ];
    let differences = readers
        .iter()
        .flat_map(|(reader, other, least)| compare_with(&ours, what, reader, other, *least));
    differences.collect()
}

/// A host with the slim kernel, whose files the golden files show.
fn boot(topology: &str) -> Host {
    let options = Options { topology: topology.into(), kernel: Choice::Slim, ..Options::default() };
    let host = Host::with(&options);
    // Cargo puts test programs into a subdirectory of that of the programs.
    let programs = std::env::current_exe().unwrap();
    let programs = programs.ancestors().nth(2).unwrap();
    host.lab.put(&programs.join("xtask"), "/usr/local/bin/xtask").unwrap();
    host
}

/// All virtual functions of the igb, without a driver: udev would load it while others read.
fn virtual_functions(server: &Host) {
    server.sh(
        "cd /sys/bus/pci/devices; pf=$(dirname $(grep -l 0x10c9 */device | head -1))
         echo 0 >$pf/sriov_drivers_autoprobe; echo 7 >$pf/sriov_numvfs; for i in $(seq 100); do [ -e $pf/virtfn6/iommu_group ] && break; sleep 0.1; done
         sleep 1",
    );
}

#[test]
fn the_inventory_agrees_with_other_readers_and_is_shown_as_before() {
    if !wanted() {
        return;
    }
    let mut differences = Vec::new();
    for topology in ["bare", "amd", "virtio-iommu"] {
        let host = boot(topology);
        differences.extend(commands::changed(&host, topology));
        differences.extend(compare(&host, topology));
    }
    let workstation = boot("workstation");
    differences.extend(commands::changed(&workstation, "workstation"));
    differences.extend(compare(&workstation, "workstation"));
    workstation.sh(
        "modprobe vfio-pci; cd /sys/bus/pci/devices/0000:03:00.0
         echo vfio-pci >driver_override; echo 0000:03:00.0 >driver/unbind; echo 0000:03:00.0 >/sys/bus/pci/drivers_probe",
    );
    differences.extend(compare(&workstation, "workstation with a NIC on vfio-pci"));
    drop(workstation);
    let server = boot("server");
    differences.extend(commands::changed(&server, "server"));
    differences.extend(compare(&server, "server"));
    virtual_functions(&server);
    differences.extend(compare(&server, "server with virtual functions"));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// In a separate lab: libvirt starts udev, which loads drivers and renames interfaces.
#[test]
fn the_inventory_agrees_with_libvirt() {
    if !wanted() {
        return;
    }
    let server = boot("server");
    virtual_functions(&server);
    awake(&server);
    let libvirt = virsh::read(&server);
    let differences = compare_with(&ours::read(&server), "server", "libvirt", &libvirt, 10);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_difference_is_noticed() {
    let facts = |text: &str| {
        Facts::from([("0000:01:00.0".to_owned(), BTreeMap::from([("driver", text.to_owned())]))])
    };
    assert!(differences(&facts("nvidia"), &facts("nvidia")).is_empty());
    assert_eq!(differences(&facts(NONE), &facts("nvidia")).len(), 1);
    assert_eq!(differences(&Facts::new(), &facts("nvidia")).len(), 1);
    assert_eq!(differences(&facts("nvidia"), &Facts::new()).len(), 1);
}
