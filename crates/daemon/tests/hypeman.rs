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

/// Runs a program that makes every call of a client, on a daemon of its own.
fn every_call(program: &std::ffi::OsStr, script: &str, more: &[&std::ffi::OsStr]) {
    let daemon = Daemon::on(sim::workstation(), Some("a-token-for-hypeman"));
    daemon.import("lab/guest:1");
    daemon.container("boxed");
    let before = daemon.snapshot();
    let script = format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR"));
    let url = format!("http://{}", daemon.address);
    let mut command = Command::new(program);
    command.arg(script).args(more).args([&url, "a-token-for-hypeman", GPU, "lab/guest:1"]);
    let output = command.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(daemon.snapshot(), before);
}

#[test]
fn every_call_of_the_python_client_is_answered_with_its_type() {
    match std::env::var_os("HANDOVER_HYPEMAN_PYTHON") {
        Some(python) => every_call(&python, "hypeman_calls.py", &[]),
        None => println!(
            "SKIPPED: HANDOVER_HYPEMAN_PYTHON names no Python with the client (scripts/test-rest sets it)"
        ),
    }
}

#[test]
fn every_call_of_the_typescript_client_is_answered_with_its_type() {
    match std::env::var_os("HANDOVER_HYPEMAN_NODE") {
        Some(folder) => every_call("node".as_ref(), "hypeman_calls.mjs", &[&folder]),
        None => println!(
            "SKIPPED: HANDOVER_HYPEMAN_NODE names no folder with the client (scripts/test-rest sets it)"
        ),
    }
}
