//! Single steps on a real kernel, with the lab's devices. Runs only with `HANDOVER_LAB=1`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use lab::Lab;
use serde_json::{Value, json};

/// The crate's example, as L1 sees it.
const HOST: &str = "/tmp/host";
const NIC: &str = "0000:03:00.0";
const GPU: &str = "0000:01:00.0";

/// One boot for all tests here, one test at a time.
fn workstation() -> Option<(&'static Lab, MutexGuard<'static, ()>)> {
    static LAB: OnceLock<Option<Lab>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = LAB.get_or_init(|| {
        if std::env::var_os("HANDOVER_LAB").is_none_or(|value| value != "1") {
            let _ = writeln!(std::io::stderr(), "SKIPPED: host steps: HANDOVER_LAB=1 is not set");
            return None;
        }
        let lab = Lab::boot("workstation").unwrap_or_else(|error| panic!("{error:#}"));
        // `cargo test --test lab` alone does not build it. With the features of the whole workspace, as the gate builds it:
        // a package alone would compile its dependencies once more.
        let build = ["build", "--quiet", "--workspace", "--example", "host"];
        assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
        // target/debug/deps/lab-... is this test; the example lies beside it.
        let test = std::env::current_exe().unwrap();
        let built: PathBuf = test.ancestors().nth(2).unwrap().join("examples/host");
        lab.put(&built, HOST).unwrap();
        lab.sh(&format!("chmod +x {HOST}")).unwrap();
        Some(lab)
    });
    lab.as_ref().map(|lab| (lab, turn))
}

/// Performs a step in L1.
fn step(lab: &Lab, step: &Value) -> Value {
    let output = lab.exec(&format!("{HOST} step '{step}'")).unwrap();
    serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn must(lab: &Lab, what: &Value) {
    let line = step(lab, what);
    assert_eq!(line["result"], json!({"Ok": null}), "{line}");
    assert_eq!(line["after"], json!({"Ok": "after"}), "{line}");
}

/// The error of a step that must fail.
fn fails(lab: &Lab, what: &Value) -> String {
    let line = step(lab, what);
    assert!(line["result"]["Err"].is_object(), "{line}");
    line["result"]["Err"].to_string()
}

fn on(kind: &str, address: &str, driver: &str) -> Value {
    json!({"step": kind, "address": address, "driver": driver})
}

fn reserve(address: &str, from: Option<&str>, to: Option<&str>) -> Value {
    json!({"step": "set_override", "address": address, "from": from, "to": to})
}

#[test]
fn a_nic_goes_to_vfio_and_back_also_when_its_module_is_gone() {
    let Some((lab, _turn)) = workstation() else { return };
    let found = format!("{HOST} found {NIC}");
    let before = lab.sh(&found).unwrap();
    must(lab, &json!({"step": "load_module", "module": "vfio_pci"}));
    must(lab, &reserve(NIC, None, Some("vfio-pci")));
    must(lab, &on("unbind", NIC, "e1000e"));
    must(lab, &on("bind", NIC, "vfio-pci"));
    must(lab, &json!({"step": "set_power", "address": NIC, "from": "on", "to": "on"}));
    let group = lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{NIC}/iommu_group)"));
    let group: u32 = group.unwrap().trim().parse().unwrap();
    let root = json!({"uid": 0, "gid": 0, "mode": 0o600});
    let user = json!({"uid": 4321, "gid": 0, "mode": 0o600});
    let grant = |from: &Value, to: &Value| json!({"step": "grant_group", "address": NIC, "group": group, "from": from, "to": to});
    must(lab, &grant(&root, &user));
    assert_eq!(lab.sh(&format!("stat -c %u:%a /dev/vfio/{group}")).unwrap().trim(), "4321:600");
    // Refused while it is open: the unbind would wait.
    let unbind = on("unbind", NIC, "vfio-pci");
    let held = lab.exec(&format!("exec 7<>/dev/vfio/{group}; {HOST} step '{unbind}'")).unwrap();
    assert!(held.stdout.contains(&format!("has /dev/vfio/{group} open")), "{held:?}");
    must(lab, &grant(&user, &root));
    must(lab, &reserve(NIC, Some("vfio-pci"), None));
    must(lab, &unbind);
    lab.sh("rmmod e1000e").unwrap();
    must(lab, &on("return", NIC, "e1000e"));
    assert_eq!(lab.sh(&found).unwrap(), before);
}

#[test]
fn a_gpu_whose_driver_fails_once_is_removed_and_found_again() {
    let Some((lab, _turn)) = workstation() else { return };
    let fail = |value: u8| format!("echo {value} > /sys/module/labgpu/parameters/probe_fail");
    must(lab, &on("unbind", GPU, "labgpu"));
    lab.sh(&fail(1)).unwrap();
    let words = fails(lab, &on("return", GPU, "labgpu"));
    assert!(words.contains("Input/output error: labgpu refused to bind"), "{words}");
    // It fails until after the rescan has begun.
    let back = on("return", GPU, "labgpu");
    let script = format!("(sleep 1; {}) & {HOST} step '{back}'", fail(0));
    let output = lab.exec(&script).unwrap();
    assert!(output.stdout.contains(r#""result":{"Ok":null}"#), "{output:?}");
    assert!(lab.sh(&format!("ls /sys/bus/pci/devices/{GPU}/driver/unbind")).is_ok());
}

#[test]
fn a_function_whose_worker_died_between_remove_and_rescan_is_found_again() {
    let Some((lab, _turn)) = workstation() else { return };
    let found = format!("{HOST} found {NIC}");
    let before = lab.sh(&found).unwrap();
    lab.sh(&format!("echo 1 > /sys/bus/pci/devices/{NIC}/remove")).unwrap();
    let words = fails(lab, &on("unbind", NIC, "e1000e"));
    assert!(words.contains("gone"), "{words}");
    must(lab, &on("return", NIC, "e1000e"));
    assert_eq!(lab.sh(&found).unwrap(), before);
}

#[test]
fn a_worker_inside_the_kernel_outlives_its_daemon_and_keeps_the_lock() {
    let Some((lab, _turn)) = workstation() else { return };
    let unbind = on("unbind", GPU, "labgpu");
    let script = format!(
        "echo 1 > /sys/module/labgpu/parameters/held\n\
         sleep 600 7<>$(ls /dev/labgpu*) & holder=$!\n\
         sleep 0.5; {HOST} step '{unbind}' & daemon=$!\n\
         for i in {{1..100}}; do [ -e /sys/bus/pci/devices/{GPU}/driver ] || break; sleep 0.1; done\n\
         kill -9 $daemon; wait $daemon\n\
         {HOST} ls >/dev/null && echo listed\n\
         {HOST} step '{unbind}'\n\
         kill $holder; wait $holder; sleep 1\n\
         echo 0 > /sys/module/labgpu/parameters/held\n\
         {HOST} step '{unbind}'"
    );
    let output = lab.exec(&script).unwrap();
    // A listing does not wait. The link is gone while the driver is still removing: only the lock shows that.
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"listed"), "{output:?}");
    let during: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(during["before"], json!({"Ok": "after"}), "{during}");
    assert_eq!(during["result"]["Err"]["error"], "locked", "{during}");
    let afterwards: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(afterwards["result"], json!({"Ok": null}), "{afterwards}");
    must(lab, &on("return", GPU, "labgpu"));
}
