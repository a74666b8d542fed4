//! NICs that the host uses: what `ls`, `show`, `doctor`, `catalog` and `boot-list` say. The first three hosts are from
//! public reports (harvester/harvester 2960, 3199, 3652; k8snetworkplumbingwg/sriov-network-device-plugin 124, 156).
#![allow(clippy::unwrap_used)]

mod hosts;

use std::process::Command;

use hosts::{Host, debian_with_interface, port_of};

const HEADER: &str =
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
const DEFAULT: &str = "00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
const SUBNET: &str = "0001A8C0\t00000000\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
const NIC: &str = "0000:01:00.0";

fn handover(host: &Host, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    let output = command.args(arguments).arg("--root").arg(host.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    format!("{}{}", text(output.stdout), text(output.stderr))
}

/// Every command that tells the use of the NIC tells this one.
fn in_use(host: &Host, reason: &str) {
    let listed = handover(host, &["ls"]);
    assert!(listed.contains(&format!("in use: {reason}")), "{listed}");
    let shown = handover(host, &["show", NIC]);
    assert!(shown.contains("not while in use") && shown.contains(reason), "{shown}");
    assert!(shown.contains("first move this to another interface"), "{shown}");
    let checked = handover(host, &["doctor", "--for", NIC, "--all"]);
    // Its lines are wrapped.
    let checked = checked.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(checked.contains(&format!("is used by the host's network: {reason}")), "{checked}");
    assert!(checked.contains(&format!("`handover claim {NIC} --force-network`")), "{checked}");
    assert!(!checked.contains("no program, mount or route uses it"), "{checked}");
    let listed = handover(host, &["boot-list", NIC, "--dry-run"]);
    assert!(listed.contains("the host itself needs") && listed.contains("--at-boot"), "{listed}");
    let surveyed = handover(host, &["catalog", "suggest"]);
    assert!(!surveyed.contains("panicked"), "{surveyed}");
    // Each reason is JSON too.
    let json = handover(host, &["ls", "--json"]);
    assert!(json.contains(reason) && json.contains("\"in_use\""), "{json}");
}

#[test]
fn a_port_of_an_open_vswitch() {
    let host = debian_with_interface();
    port_of(&host, "ovs-system");
    host.file("proc/net/route", &format!("{HEADER}br-ex\t{DEFAULT}br-ex\t{SUBNET}"));
    in_use(&host, "port of ovs-system on eno1");
}

#[test]
fn a_network_without_a_default_route() {
    let host = debian_with_interface();
    host.file("proc/net/route", &format!("{HEADER}eno1\t{SUBNET}wlan0\t{DEFAULT}"));
    in_use(&host, "route 192.168.1.0/24 on eno1");
}

#[test]
fn the_root_file_system_on_nfs() {
    let host = debian_with_interface();
    host.file("proc/net/route", &format!("{HEADER}eno1\t{SUBNET}"));
    let mount = "22 1 0:20 / / rw - nfs 192.168.1.2:/root rw,addr=192.168.1.2\n";
    host.file("proc/self/mountinfo", mount);
    in_use(&host, "NFS / from 192.168.1.2 on eno1");
}

#[test]
fn an_interface_that_is_only_up() {
    let host = debian_with_interface();
    let listed = handover(&host, &["ls"]);
    assert!(listed.contains("free") && !listed.contains("in use"), "{listed}");
    let checked = handover(&host, &["doctor", "--for", NIC, "--all"]);
    assert!(checked.contains("no program, mount or route uses it"), "{checked}");
}
