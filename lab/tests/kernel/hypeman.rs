//! The public client of the REST interface, unmodified, against the daemon on a real kernel.

use std::process::Command;

use crate::support::{GPU, Host, wanted};

#[test]
fn the_public_client_drives_devices_and_instances() {
    if !wanted() {
        return;
    }
    let Some(python) = std::env::var_os("HANDOVER_HYPEMAN_PYTHON") else {
        println!(
            "SKIPPED: HANDOVER_HYPEMAN_PYTHON names no Python with the client (make test sets it)"
        );
        return;
    };
    let host = Host::shared("workstation");
    host.serve("");
    host.import_guest("guest", "handover.stay=1");
    let before = host.snapshot();
    let port = host.lab.forward(0, "127.0.0.1:8080").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/daemon/tests/hypeman_client.py");
    let output = Command::new(python)
        .args([script, &format!("http://127.0.0.1:{port}"), "no-token", GPU, "guest"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{errors}\n{}", host.log());
    assert_eq!(host.snapshot(), before);
}
