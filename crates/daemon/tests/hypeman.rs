//! The public client of hypeman's API, unmodified, against a daemon on a simulated host.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use support::{Daemon, GPU};

#[test]
fn the_public_client_drives_devices_and_instances() {
    let Some(python) = std::env::var_os("HANDOVER_HYPEMAN_PYTHON") else {
        println!(
            "SKIPPED: HANDOVER_HYPEMAN_PYTHON names no Python with the client (make test sets it)"
        );
        return;
    };
    let daemon = Daemon::on(sim::workstation(), Some("a-token-for-hypeman"));
    daemon.import("lab/guest:1");
    let before = daemon.snapshot();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hypeman_client.py");
    let url = format!("http://{}", daemon.address);
    let output = Command::new(python)
        .args([script, &url, "a-token-for-hypeman", GPU, "lab/guest:1"])
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(daemon.snapshot(), before);
}
