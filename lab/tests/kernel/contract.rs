//! The contract of a host, on a real kernel: the same checks that the simulation passes.

use std::path::Path;

use crate::support::{GPU, Host, IGB, NIC, NVME, wanted};

#[test]
fn the_kernel_does_what_the_simulation_does() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/xtask");
    host.lab.put(&xtask, "/usr/local/bin/xtask").unwrap();
    for address in [NIC, NVME, GPU] {
        let before = host.snapshot();
        println!("{}", host.sh(&format!("xtask contract {address} 2>&1")));
        assert_eq!(host.snapshot(), before, "{address}");
    }
}

#[test]
fn the_kernel_does_with_parts_what_the_simulation_does() {
    if !wanted() {
        return;
    }
    let host = Host::shared("server");
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/xtask");
    host.lab.put(&xtask, "/usr/local/bin/xtask").unwrap();
    for (address, of) in
        [("0000:01:00.0", "vfs"), ("0000:02:00.0", "vfs"), ("0000:44:00.0", "mdevs")]
    {
        let before = host.snapshot();
        println!("{}", host.sh(&format!("xtask contract {address} --of {of} 2>&1")));
        assert_eq!(host.snapshot(), before, "{address} {of}");
    }
}

#[test]
fn the_kernel_does_with_vgpus_what_the_simulation_does() {
    if !wanted() {
        return;
    }
    let host = Host::shared("server");
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/xtask");
    host.lab.put(&xtask, "/usr/local/bin/xtask").unwrap();
    host.vgpu_functions(IGB);
    let before = host.snapshot();
    // Equal and different sizes, the other format of the table, and a driver that is busy for a while after freeing.
    for parameters in ["", "heterogeneous=1", "name_first=1", "release_delay_ms=700"] {
        for parameter in parameters.split_whitespace() {
            let (name, value) = parameter.split_once('=').unwrap();
            host.sh(&format!("echo {value} >/sys/module/labvf/parameters/{name}"));
        }
        println!("{parameters} {}", host.sh(&format!("xtask contract {IGB} --of vgpus 2>&1")));
        assert_eq!(host.snapshot(), before, "{parameters}");
    }
}
