//! `handover pod` on made-up hosts: output and errors.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use insta::assert_snapshot;
use support::host;

fn machine(devices: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {{name: web}}\nspec:\n  template:\n    spec:\n      \
         domain: {{memory: {{guest: 1Gi}}, devices: {{{devices}}}}}\n"
    )
}

fn gpus(names: &[&str]) -> String {
    let one = |(number, name): (usize, &&str)| format!("{{name: gpu{number}, deviceName: {name}}}");
    let all: Vec<String> = names.iter().enumerate().map(one).collect();
    machine(&format!("gpus: [{}]", all.join(", ")))
}

fn pod(text: &str, host: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(["pod", "-", "--host"]).arg(host).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    child.stdin = None;
    child.wait_with_output().unwrap()
}

/// The messages of a command that must succeed.
fn explained(text: &str, more: &[&str]) -> String {
    let host = host();
    let output = pod(text, host.path(), &[more, &["--explain"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(output.stdout.starts_with(b"apiVersion: v1\n"));
    said
}

/// The error of a command that must fail and print nothing else.
fn refused(text: &str, more: &[&str]) -> String {
    let host = host();
    let output = pod(text, host.path(), more);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn gpus_by_the_nodes_that_they_really_have() {
    // The A100 is on node 1, and so is the P40 chosen with it; each has its own number.
    assert_snapshot!(explained(&gpus(&["nvidia.com/TESLA_P40", "nvidia.com/A100"]), &[]));
    // Vendors are distinguished, whatever their order.
    assert_snapshot!(explained(&gpus(&["amd.com/gpu", "nvidia.com/GPU"]), &[]));
}

#[test]
fn devices_on_vfio_are_passed_by_vfio() {
    let text = machine(
        "gpus: [{name: gpu0, deviceName: nvidia.com/TESLA_P40}], hostDevices: [{name: nic, deviceName: example.com/nic}]",
    );
    assert_snapshot!(explained(&text, &["--resource", "example.com/nic=8086:10fb"]));
}

#[test]
fn unavailable_devices_are_an_error_before_anything_is_printed() {
    assert_snapshot!(refused(&gpus(&["nvidia.com/TESLA_V100"]), &[]));
    assert_snapshot!(refused(&gpus(&["amd.com/gpu", "amd.com/gpu"]), &[]));
    assert_snapshot!(refused(&gpus(&["amd.com/gpu"]), &["--devices=vfio"]));
    assert_snapshot!(refused(
        &machine("hostDevices: [{name: a, deviceName: b.com/c}]"),
        &["--devices=vfio"]
    ));
    let volume = machine("")
        .replace("domain:", "volumes: [{name: a, dataVolume: {name: b}}]\n      domain:");
    assert_snapshot!(refused(&volume, &[]));
}

#[test]
fn missing_devices_can_be_allowed() {
    let host = host();
    let output = pod(&gpus(&["nvidia.com/TESLA_V100"]), host.path(), &["--allow-missing"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("warning: gpu gpu0 requests"), "{said}");
}

#[test]
fn gpu_memory_is_limited_or_the_reason_is_printed() {
    let host = host();
    let amd = gpus(&["amd.com/gpu"]);
    let run = |text: &str, more: &[&str]| {
        let output = pod(text, host.path(), more);
        let said = String::from_utf8(output.stderr).unwrap();
        (String::from_utf8(output.stdout).unwrap(), said)
    };
    let asked = ["--gpu-memory-limit=4Gi"];
    assert!(run(&amd, &asked).1.contains("no dmem controller"));
    let write = |path: &str, text: &str| {
        let path = host.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("sys/fs/cgroup/dmem.capacity", "drm/0000:43:00.0/vram 8589934592\n");
    assert!(run(&amd, &asked).1.contains("packaging/oci-hook.json"));
    let hook = include_str!("../../../packaging/oci-hook.json");
    write("usr/share/containers/oci/hooks.d/handover.json", hook);
    let line = "handover.dev/dmem-max: \"drm/0000:43:00.0/vram 4294967296\"";
    let (printed, said) = run(&amd, &asked);
    assert!(printed.contains(line), "{said}{printed}");
    let annotation = "template:\n    metadata: {annotations: {handover.dev/gpu-memory-limit: 4Gi}}";
    let annotated = amd.replace("template:", annotation);
    assert!(run(&annotated, &[]).0.contains(line));
    // Nothing is printed if the limit would not be enforced, even with --allow-missing.
    for (text, more, why) in [
        (&annotated, "--gpu-memory-limit=9Gi", "is more than 0000:43:00.0 has"),
        (&annotated, "--devices=vfio", "through VFIO"),
        (&gpus(&["nvidia.com/A100"]), "--gpu-memory-limit=1Gi", "has no region"),
        (
            &gpus(&["nvidia.com/GRID_T4-1Q"]),
            "--gpu-memory-limit=1Gi",
            "profile GRID T4-1Q is the limit",
        ),
        (&machine(""), "--gpu-memory-limit=1Gi", "requests no GPU"),
    ] {
        let (printed, said) = run(text, &[more, "--allow-missing"]);
        assert!(printed.is_empty() && said.contains(why), "{why}: {said}");
    }
    let unseen = pod(&annotated, Path::new("none"), &[]);
    assert!(unseen.stdout.is_empty() && !unseen.status.success(), "{unseen:?}");
    // Refused before anything is read.
    let wrong = pod("", host.path(), &["--gpu-memory-limit=some"]);
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("invalid GPU memory limit"), "{said}");
}

#[test]
fn two_machines_get_two_gpus_and_json_is_yaml() {
    let host = host();
    let text =
        format!("{}---\n{}", gpus(&["nvidia.com/TESLA_P40"]), gpus(&["nvidia.com/TESLA_P40"]));
    let text = text.replacen("name: web", "name: db", 1);
    let output = pod(&text, host.path(), &["--output", "json", "--devices", "nodes"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let pods: Vec<serde_json::Value> =
        text.split("---\n").map(|one| serde_json::from_str(one).unwrap()).collect();
    let gpu = |pod: &serde_json::Value| {
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
        let paths = mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap());
        paths
            .filter(|path| path.starts_with("/dev/nvidia") && path.len() == 12)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut given = [gpu(&pods[0]), gpu(&pods[1])].concat();
    given.sort();
    assert_eq!(given, ["/dev/nvidia0", "/dev/nvidia1"]);
}

#[test]
fn devices_are_requested_by_name() {
    let host = host();
    let limits = |devices: &str, more: &[&str]| {
        let output = pod(devices, host.path(), &[&["--cdi", "--output", "json"], more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let pod: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let container = &pod["spec"]["containers"][0];
        let own = |mount: &serde_json::Value| {
            let path = mount["mountPath"].as_str().unwrap();
            path.starts_with("/dev/nvidia") || path.starts_with("/dev/vfio")
        };
        assert!(!container["volumeMounts"].as_array().unwrap().iter().any(own), "{container:#}");
        container["resources"]["limits"].clone()
    };
    let nodes = limits(&gpus(&["nvidia.com/A100"]), &["--devices=nodes"]);
    assert_eq!(nodes["handover.dev/device=0000:42:00.0"], "1", "{nodes:#}");
    let vfio = limits(&gpus(&["nvidia.com/TESLA_P40"]), &["--devices=vfio"]);
    assert_eq!(vfio["handover.dev/device=0000:02:00.0"], "1", "{vfio:#}");
}

#[test]
fn no_host_at_all() {
    let output = pod(
        &gpus(&["amd.com/gpu", "nvidia.com/GPU", "x.org/card"]),
        Path::new("none"),
        &["--explain"],
    );
    assert!(output.status.success());
    assert_snapshot!(String::from_utf8(output.stderr).unwrap());
    let named = pod(&gpus(&["amd.com/gpu"]), Path::new("none"), &["--cdi"]);
    assert!(String::from_utf8(named.stderr).unwrap().contains("--cdi needs addresses of a host"));
    let output = pod(&gpus(&["amd.com/gpu"]), Path::new("none"), &["--mount-devices=false"]);
    assert!(!String::from_utf8(output.stdout).unwrap().contains("/dev/"));
}
