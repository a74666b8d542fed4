//! The REST interface over real sockets, on a simulated host: answers, refusals, and that a refusal changes nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{BRIDGE, Daemon, GPU, NIC};

#[test]
fn a_device_goes_to_an_instance_and_comes_back() {
    let daemon = Daemon::start();
    let before = daemon.snapshot();
    let available = daemon.get("/devices/available").expect(200);
    let gpu = available.as_array().unwrap().iter().find(|one| one["pci_address"] == GPU).unwrap();
    assert_eq!((&gpu["vendor_id"], &gpu["current_driver"]), (&json!("10de"), &json!("nvidia")));
    let nics = daemon.get("/devices/available?type=nic").expect(200);
    assert_eq!(nics[0]["pci_address"], NIC);
    daemon.import("debian");
    let device = daemon.post("/devices", &json!({ "pci_address": GPU })).expect(201);
    assert_eq!((&device["name"], &device["type"]), (&json!("pci-0000-01-00-0"), &json!("gpu")));
    let body = json!({ "name": "vm", "image": "debian", "devices": ["pci-0000-01-00-0"] });
    let instance = daemon.post("/instances", &body).expect(201);
    assert_eq!((&instance["state"], &instance["size"]), (&json!("Running"), &json!("1GB")));
    assert_eq!((&instance["vcpus"], &instance["devices"][0]), (&json!(2), &device["id"]));
    assert_eq!(daemon.get("/claims").expect(200)[0]["state"], "prepared");
    let function = &daemon.get("/inventory").expect(200)["functions"][GPU];
    assert_eq!(function["driver"], "vfio-pci");
    let used = &daemon.get("/resources").expect(200)["gpu"];
    assert_eq!((&used["total_slots"], &used["used_slots"]), (&json!(2), &json!(1)));
    let attached = &daemon.get("/instances/vm").expect(200)["attached"];
    assert_eq!(
        (&attached[0]["pci_address"], &attached[0]["name"]),
        (&json!(GPU), &json!("pci-0000-01-00-0"))
    );
    daemon.ask("DELETE", "/instances/vm", "").expect(204);
    assert_eq!(daemon.snapshot(), before);
}

#[test]
fn a_release_reports_what_is_left_alone() {
    let daemon = Daemon::start();
    let nic: model::Address = NIC.parse().unwrap();
    let claim = json!({ "owner": "job/one", "wants": [NIC] });
    daemon.post("/claims", &claim).expect(201);
    daemon.ask("DELETE", "/claims/job%2Fone", "").expect(204);

    let reserved = |state: &mut sim::FunctionState| state.driver_override = Some("pci-stub".into());
    daemon.post("/claims", &claim).expect(201);
    daemon.host.change(nic, reserved);
    let released = daemon.ask("DELETE", "/claims/job%2Fone", "").expect(200);
    let note = released["notes"][0].as_str().unwrap_or_default();
    assert!(note.contains(NIC) && note.contains("left alone"), "{released}");
    assert_eq!(daemon.get("/claims").expect(200), json!([]));

    daemon.post("/claims", &json!({ "owner": "job/two", "wants": [GPU] })).expect(201);
    daemon.host.change(GPU.parse().unwrap(), reserved);
    let unprepared = daemon.ask("POST", "/claims/job%2Ftwo/unprepare", "").expect(200);
    assert_eq!(unprepared["state"], "reserved");
    let note = unprepared["notes"][0].as_str().unwrap_or_default();
    assert!(note.contains(GPU) && note.contains("left alone"), "{unprepared}");
}

#[test]
fn bad_devices_are_refused_and_change_nothing() {
    let daemon = Daemon::start();
    daemon.register("gpu0", GPU);
    let before = daemon.snapshot();
    let post = |body: Value| daemon.post("/devices", &body);
    post(json!({ "pci_address": "0000:77:00.0" })).refused(404, "device_not_found");
    post(json!({ "pci_address": "gpu number one" })).refused(400, "invalid_pci_address");
    post(json!({ "pci_address": BRIDGE })).refused(409, "not_assignable");
    post(json!({ "pci_address": GPU, "name": "again" })).refused(409, "conflict");
    post(json!({ "pci_address": NIC, "name": "gpu0" })).refused(409, "conflict");
    for word in ["gpu", "2xgpu", "vf", "pci_0000_03_00_0", "bd4aa2b4-9c54-4d10-9c8e-4f4f4b2b3c7d"] {
        let said = post(json!({ "pci_address": NIC, "name": word })).refused(400, "invalid_name");
        assert!(said.contains("requests read it as"), "{said}");
    }
    post(json!({ "pci_address": NIC, "name": "../x" })).refused(400, "invalid_name");
    post(json!({ "name": "x" })).refused(400, "invalid_request");
    let cut = daemon.ask("POST", "/devices", "{\"pci_address\": ");
    assert!(cut.refused(400, "invalid_request").contains("line 1 column 16"));
    daemon.ask("POST", "/devices", "").refused(400, "invalid_request");
    let large = format!("{{\"pci_address\": \"{}\"}}", "x".repeat(5 << 20));
    daemon.ask("POST", "/devices", &large).refused(413, "invalid_request");
    daemon.get("/devices/none").refused(404, "not_found");
    daemon.get("/devices/%FF").refused(400, "invalid_request");
    daemon.get("/devices/available?type=toaster").refused(400, "invalid_request");
    daemon.ask("DELETE", "/devices/none", "").refused(404, "not_found");
    assert_eq!(daemon.snapshot(), before);
}

#[test]
fn bad_options_of_a_machine_are_refused() {
    let daemon = Daemon::start();
    daemon.import("debian");
    let post = |changes: Value| {
        let mut body = json!({ "name": "vm", "image": "debian" });
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        daemon.post("/instances", &body)
    };
    for network in [
        json!({ "mode": "bridge" }),
        json!({ "mode": "none", "enabled": true }),
        json!({ "enabled": false, "forwards": ["2222:22"] }),
        json!({ "forwards": ["22"] }),
        json!({ "mac": "52:54" }),
        json!({ "mac": "ff:ff:ff:ff:ff:ff" }),
    ] {
        post(json!({ "network": network })).refused(400, "invalid_request");
    }
    post(json!({ "firmware": "coreboot" })).refused(400, "invalid_request");
    post(json!({ "tpm": "2.0" })).refused(400, "invalid_request");
    post(json!({ "ssh_keys": ["me"] })).refused(400, "invalid_request");
    post(json!({ "user_data": "packages: []" })).refused(400, "invalid_request");
    post(json!({ "hostname": "a_b" })).refused(400, "invalid_request");
    assert_eq!(daemon.get("/instances").expect(200), json!([]));
}

#[test]
fn secure_boot_and_a_tpm_are_shown() {
    let daemon = Daemon::start();
    daemon.import("debian");
    let post = |name: &str, changes: Value| {
        let mut body = json!({ "name": name, "image": "debian" });
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        daemon.post("/instances", &body).expect(201)
    };
    let made = post("vm", json!({ "firmware": "uefi-secure", "tpm": true }));
    let shown = daemon.get("/instances/vm").expect(200);
    let template = daemon.get("/instances/vm/template").expect(200);
    for answer in [&made, &shown, &template] {
        assert_eq!((&answer["firmware"], &answer["tpm"]), (&json!("uefi-secure"), &json!(true)));
    }
    daemon.post("/instances?once=true", &template).expect(200);
    let without = json!({ "name": "vm", "image": "debian", "tpm": false });
    let error = daemon.post("/instances?once=true", &without).refused(409, "name_conflict");
    assert!(error.contains("tpm: false asked for, true there"), "{error}");
    for (name, without) in
        [("none", json!({})), ("null", json!({ "tpm": null })), ("off", json!({ "tpm": false }))]
    {
        assert!(post(name, without).get("tpm").is_none());
    }
}

#[test]
fn bad_instances_are_refused_and_change_nothing() {
    let daemon = Daemon::start();
    daemon.register("gpu0", GPU);
    daemon.import("debian");
    let before = daemon.snapshot();
    let post = |changes: Value| {
        let mut body = json!({ "name": "vm", "image": "debian", "devices": ["gpu0"] });
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        daemon.post("/instances", &body)
    };
    post(json!({ "name": "Bad_Name" })).refused(400, "invalid_name");
    post(json!({ "image": "none" })).refused(404, "not_found");
    post(json!({ "devices": ["none"] })).refused(404, "not_found");
    post(json!({ "size": "900TB" })).refused(409, "insufficient_resources");
    post(json!({ "size": "much" })).refused(400, "invalid_size");
    post(json!({ "vcpus": "two" })).refused(400, "invalid_request");
    let profile = json!({ "gpu": { "profile": "L40S-1Q" } });
    post(profile).refused(409, "insufficient_resources");
    let overlay = json!([{ "volume_id": "v", "mount_path": "/v", "overlay": true }]);
    for (field, value) in [("ttl", json!("1h")), ("volumes", overlay)] {
        post(json!({ field: value })).refused(501, "not_implemented");
    }
    let words = post(json!({ "env": { "A": "b" } })).refused(409, "invalid_state");
    assert!(words.contains("container images"), "{words}");
    post(json!({ "cmd": ["true"] })).refused(409, "invalid_state");
    daemon
        .launcher
        .set_missing(Some("there is no qemu-system-x86_64; apt install qemu-system-x86"));
    post(json!({})).refused(409, "hypervisor_missing");
    daemon.launcher.set_missing(None);
    assert_eq!(daemon.snapshot(), before);

    // Fields that request nothing are accepted, and so are unknown ones, with a warning.
    let made = post(json!({ "network": { "enabled": false, "egress": {} }, "env": {}, "ttl": "0s",
        "gpu": {}, "new": 1 }))
    .expect(201);
    let warnings: Vec<&str> =
        made["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("`network.egress`") && warnings[1].contains("`new`"),
        "{warnings:?}"
    );
    post(json!({})).refused(409, "name_conflict");
    post(json!({ "name": "other" })).refused(409, "in_use");
    daemon.ask("DELETE", "/devices/gpu0", "").refused(409, "in_use");
    daemon.get("/instances?state=Lost").refused(400, "invalid_request");
    daemon.get("/instances/vm/wait").refused(400, "invalid_request");
    daemon.get("/instances/vm/wait?state=Running&timeout=soon").refused(400, "invalid_request");
    let waited = daemon.get("/instances/vm/wait?state=Stopped&timeout=50ms").expect(200);
    assert_eq!((&waited["state"], &waited["timed_out"]), (&json!("Running"), &json!(true)));
}

#[test]
fn a_host_that_cannot_hand_over_says_why() {
    let mut inventory = sim::workstation();
    inventory.vfio.iommu = false;
    let daemon = Daemon::on(inventory, None);
    let body = json!({ "pci_address": GPU });
    let message = daemon.post("/devices", &body).refused(409, "no_iommu");
    assert!(message.contains("intel_iommu=on"), "{message}");
    assert_eq!(daemon.get("/devices/available?type=all").expect(200), json!([]));

    let mut inventory = sim::workstation();
    inventory.vfio.vfio_pci = false;
    let daemon = Daemon::on(inventory, None);
    daemon.import("debian");
    // It can be fixed before the device is handed over, so it may be registered.
    daemon.register("gpu0", GPU);
    let before = daemon.snapshot();
    let machine = json!({ "name": "vm", "image": "debian", "devices": ["gpu0"] });
    let message = daemon.post("/instances", &machine).refused(409, "vfio_missing");
    assert!(message.contains("modprobe"), "{message}");
    assert_eq!(daemon.snapshot(), before);
}

#[test]
fn missing_objects_are_not_found() {
    let daemon = Daemon::start();
    daemon.get("/nothing").refused(404, "not_found");
    daemon.get("/instances/x/y/z").refused(404, "not_found");
    daemon.ask("PUT", "/devices", "{}").refused(405, "invalid_request");
    daemon.ask("PATCH", "/instances/vm", "{}").refused(404, "not_found");
    for path in ["/builders", "/ingresses", "/builds/b1", "/snapshots", "/instances/vm/standby"] {
        daemon.ask("POST", path, "{}").refused(501, "not_implemented");
    }
    daemon.get("/instances/vm/stats").refused(404, "not_found");
    daemon.post("/instances/vm/pause", &json!({})).refused(404, "not_found");
}

#[test]
fn an_instance_is_paused_and_resumed() {
    let daemon = Daemon::start();
    daemon.import("debian");
    let created =
        daemon.post("/instances", &json!({ "name": "vm", "image": "debian" })).expect(201);
    let verb = |verb: &str| daemon.ask("POST", &format!("/instances/vm/{verb}"), "");
    for _ in 0..2 {
        assert_eq!(verb("pause").expect(200)["state"], "Paused");
    }
    let waited = daemon.get("/instances/vm/wait?state=Paused&timeout=5s").expect(200);
    assert_eq!(waited["timed_out"], false);
    assert_eq!(daemon.get("/instances?state=Paused").expect(200)[0]["name"], "vm");
    verb("start").refused(409, "invalid_state");
    let force = json!({ "force": true });
    daemon.post("/instances/vm/resume", &force).refused(400, "invalid_request");
    for _ in 0..2 {
        assert_eq!(verb("resume").expect(200)["state"], "Running");
    }
    let id = created["id"].as_str().unwrap().parse().unwrap();
    daemon.launcher.set_halted(id, Some(model::Halt::DiskFull));
    let shown = daemon.get("/instances/vm").expect(200);
    let problem = shown["state_error"].as_str().unwrap_or_default();
    assert!(problem.contains("no space") && problem.contains("instance resume vm"), "{problem}");
    verb("resume").refused(409, "insufficient_resources");
    daemon.launcher.set_halted(id, None);
    assert_eq!(verb("resume").expect(200)["state_error"], Value::Null);
    verb("pause").expect(200);
    assert_eq!(verb("stop").expect(200)["state"], "Stopped");
    verb("pause").refused(409, "invalid_state");
}

#[test]
fn an_instance_tells_what_it_uses() {
    let daemon = Daemon::start();
    daemon.import("debian");
    let created =
        daemon.post("/instances", &json!({ "name": "vm", "image": "debian" })).expect(201);
    let id = created["id"].as_str().unwrap();
    let disks = Some(model::DiskUsage { read: 7, written: 8 });
    let cpu = Duration::from_millis(1500);
    let resident = 256 << 20;
    let usage = model::Usage { cpu, resident, disks, ..model::Usage::default() };
    daemon.launcher.set_usage(id.parse().unwrap(), usage);
    let mut stats = daemon.get("/instances/vm/stats").expect(200);
    let measured_at = stats["measured_at"].take();
    assert!(measured_at.as_str().unwrap().ends_with('Z'), "{measured_at}");
    let expected = json!({
        "instance_id": id, "instance_name": "vm", "measured_at": null, "allocated_vcpus": 2,
        "allocated_memory_bytes": 1 << 30, "cpu_seconds": 1.5, "memory_rss_bytes": 256 << 20, "memory_vms_bytes": 0,
        "memory_utilization_ratio": 0.25, "disk_read_bytes": 7, "disk_written_bytes": 8,
        "network_rx_bytes": 0, "network_tx_bytes": 0, "network_measured": false,
    });
    assert_eq!(stats, expected);
    daemon.post("/instances/vm/stop", &json!({})).expect(200);
    let stats = daemon.get("/instances/vm/stats").expect(200);
    assert_eq!((&stats["cpu_seconds"], &stats["disk_read_bytes"]), (&json!(0.0), &json!(0)));
    assert_eq!(stats["network_measured"], true);
    daemon.get("/instances/vm/stats?since=yesterday").refused(400, "invalid_request");
}

#[test]
fn images_are_imported_by_path_or_refused() {
    let daemon = Daemon::start();
    daemon.import("docker.io/library/debian:13");
    let by_slash = daemon.get("/images/docker.io/library/debian:13").expect(200);
    let encoded = daemon.get("/images/docker.io%2Flibrary%2Fdebian:13").expect(200);
    assert_eq!(by_slash, encoded);
    let post = |body: Value| daemon.post("/images", &body);
    post(json!({ "name": "docker.io/library/debian:13" })).expect(202);
    // No registry listens there.
    post(json!({ "name": "localhost:1/nginx", "plain_http": true })).expect(202);
    let failed = daemon.until_done("localhost:1/nginx");
    assert_eq!(failed["error_code"], "registry_unavailable", "{failed:#}");
    post(json!({ "name": "Nginx" })).refused(400, "invalid_name");
    post(json!({ "name": "nginx", "from": "oci:" })).refused(400, "invalid_request");
    post(json!({ "name": "nginx", "password": "x" })).refused(400, "invalid_request");
    let disk = daemon.dir.path().join("disk.raw");
    post(json!({ "name": "x", "disk": disk })).refused(400, "invalid_request");
    post(json!({ "name": "x", "disk": disk, "format": "vmdk" })).refused(400, "invalid_request");
    post(json!({ "name": "../x", "disk": disk, "format": "raw" })).refused(400, "invalid_name");
    let outside = json!({ "name": "x", "disk": "/etc/hostname", "format": "raw" });
    post(outside).expect(202);
    let failed = daemon.until_done("x");
    assert_eq!(failed["status"], "failed");
    assert!(
        failed["error"].as_str().unwrap().contains("not below an import directory"),
        "{failed:#}"
    );
    post(json!({ "name": "y", "initrd": disk })).refused(400, "invalid_request");
    daemon.ask("DELETE", "/images/docker.io%2Flibrary%2Fdebian:13", "").expect(204);
    daemon.get("/images/docker.io/library/debian:13").refused(404, "not_found");
}

#[test]
fn waits_of_disconnected_clients_delay_no_one() {
    let daemon = Daemon::start();
    daemon.import("debian");
    daemon.post("/instances", &json!({ "name": "vm", "image": "debian" })).expect(201);
    // More in total than tokio has blocking threads, but not more at once than there are file descriptors.
    for _ in 0..3 {
        let waiting: Vec<UnixStream> = std::iter::repeat_with(|| {
            let mut stream = UnixStream::connect(daemon.socket()).unwrap();
            let path = "/instances/vm/wait?state=Stopped&timeout=300s";
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .take(200)
        .collect();
        // Needs no blocking thread, and comes after them.
        daemon.get("/health").expect(200);
        drop(waiting);
    }
    let began = Instant::now();
    daemon.get("/instances").expect(200);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn the_console_is_read_as_json_strings() {
    let daemon = Daemon::start();
    daemon.import("debian");
    daemon.post("/instances", &json!({ "name": "vm", "image": "debian" })).expect(201);
    let logs = daemon.get("/instances/vm/logs?source=app");
    assert!(logs.head.contains("content-type: text/event-stream"), "{}", logs.head);
    let data: Vec<&str> =
        logs.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data, [r#""GUEST one""#, r#""GUEST \"two\"""#, r#""login: ""#]);
    let last = daemon.get("/instances/vm/logs?tail=2").body;
    assert!(!last.contains("GUEST one") && last.contains("two"), "{last}");
    let raw = daemon.get("/instances/vm/logs?format=raw&tail=1");
    assert!(raw.head.contains("content-type: application/octet-stream"), "{}", raw.head);
    assert!(raw.body.contains("login: ") && !raw.body.contains("data:"), "{}", raw.body);
    daemon.get("/instances/vm/logs?format=svg").refused(400, "invalid_request");
    daemon.get("/instances/vm/logs?tail=many").refused(400, "invalid_request");
    daemon.get("/instances/vm/logs?follow=perhaps").refused(400, "invalid_request");
    daemon.get("/instances/vm/logs?source=vmm").refused(501, "not_implemented");
    daemon.get("/instances/none/logs").refused(404, "not_found");
    // A prompt has no line end.
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = "GET /instances/vm/logs?follow=true&format=raw HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut followed = Vec::new();
    while !followed.windows(6).any(|part| part == b"login:") {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&followed));
        followed.extend_from_slice(&part[..read]);
    }
    drop(stream);
    // Following ends when the machine has stopped.
    daemon.post("/instances/vm/stop", &json!({})).expect(200);
    assert!(daemon.get("/instances/vm/logs?follow=true").body.contains("login"));
}

#[test]
fn devices_are_returned_by_the_new_path_and_the_old() {
    let daemon = Daemon::start();
    let before = daemon.snapshot();
    let body = json!({ "addresses": [NIC] });
    let returned = daemon.post("/return", &body).expect(200);
    assert_eq!(
        (&returned[0]["pci_address"], &returned[0]["outcome"]),
        (&json!(NIC), &json!("unchanged"))
    );
    assert_eq!(daemon.post("/recover", &body).expect(200), returned);
    assert_eq!(daemon.snapshot(), before);
    assert!(daemon.get("/openapi.json").expect(200)["paths"]["/recover"].is_null());
}

#[test]
fn all_devices_are_returned_only_on_explicit_request() {
    let daemon = Daemon::start();
    let script = |state: &mut sim::FunctionState| state.driver = Some("vfio-pci".into());
    daemon.host.change(NIC.parse().unwrap(), script);
    let before = daemon.snapshot();
    for path in ["/return", "/recover"] {
        for body in [
            "",
            " ",
            "{}",
            "[]",
            "null",
            r#"{"addresses": []}"#,
            r#"{"all": false}"#,
            r#"{"adresses": ["0000:01:00.0"]}"#,
            r#"{"addresses": ["0000:01:00.0"], "all": true}"#,
        ] {
            daemon.ask("POST", path, body).refused(400, "invalid_request");
            assert_eq!(daemon.snapshot(), before, "{path} {body}");
        }
    }
    let returned = daemon.post("/return", &json!({ "all": true })).expect(200);
    assert_eq!(returned[0]["pci_address"], NIC, "{returned}");
}

#[test]
fn a_body_that_matters_is_required() {
    let daemon = Daemon::start();
    let claim = json!({ "owner": "job/one", "wants": [NIC], "lease_seconds": 3600 });
    let made = daemon.post("/claims", &claim).expect(201);
    let path = format!("/claims/{}", made["id"].as_str().unwrap());
    for body in ["", "[]", "[60]", r#"{"lease_seconds": 0}"#, r#"{"lease_seconds": 315360001}"#] {
        daemon.ask("POST", &format!("{path}/renew"), body).refused(400, "invalid_request");
    }
    assert_eq!(daemon.get(&path).expect(200)["expires"], made["expires"]);
    for wants in [
        json!([]),
        json!([{ "any": [] }]),
        json!([{ "any": {}, "node": 1 }]),
        json!([{ "any": {}, "count": 0 }]),
        json!([{ "vf": { "settings": { "vlan": 4095 } } }]),
    ] {
        let body = json!({ "owner": "job/two", "wants": wants });
        daemon.post("/claims", &body).refused(400, "invalid_request");
    }
    let two = json!({ "owner": "job/two", "wants": ["gpu"] });
    for query in
        ["dry_run", "dry_run=", "dry_run=perhaps", "dry_run=1", "dry_run=true&dry_run=false"]
    {
        daemon.post(&format!("/claims?{query}"), &two).refused(400, "invalid_request");
    }
    for (field, value) in [("uid", json!(u32::MAX)), ("lease_seconds", json!(u64::MAX))] {
        let mut body = two.clone();
        body[field] = value;
        daemon.post("/claims", &body).refused(400, "invalid_request");
    }
    assert_eq!(daemon.get("/claims").expect(200).as_array().unwrap().len(), 1);
}

#[test]
fn the_first_answer_of_a_lease_is_what_is_stored() {
    let daemon = Daemon::start();
    for (owner, device, seconds) in [("job/one", NIC, 1), ("job/two", GPU, 315_360_000)] {
        let body = json!({ "owner": owner, "wants": [device], "lease_seconds": seconds, "prepare": owner == "job/two" });
        let made = daemon.post("/claims", &body).expect(201);
        assert!(made["expires"].is_u64(), "{made}");
        let path = format!("/claims/{}", made["id"].as_str().unwrap());
        assert_eq!(daemon.get(&path).expect(200), made);
        let again = daemon.post("/claims", &body).expect(200);
        assert_eq!(again["expires"], made["expires"]);
        let renewed = daemon.post(&format!("{path}/renew"), &json!({ "lease_seconds": 60 }));
        assert_eq!(renewed.expect(200), daemon.get(&path).expect(200));
    }
}

#[test]
fn a_path_names_its_methods() {
    let daemon = Daemon::start();
    let document = daemon.get("/openapi.json").expect(200);
    let mut paths: Vec<(String, Vec<String>)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{key}", "x").replace("{name}", "registry/x");
        let mut methods: Vec<String> =
            methods.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".into());
        }
        paths.push((path, methods));
    }
    paths.push(("/recover".into(), vec!["POST".into()]));
    for (path, mut methods) in paths {
        methods.sort();
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"]
        {
            if methods.iter().any(|own| own == method) {
                continue;
            }
            let answer = daemon.ask(method, &path, "");
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.body);
            let allow = answer.head.lines().find_map(|line| line.strip_prefix("allow: "));
            let allow = allow.unwrap_or_else(|| panic!("{method} {path}: {}", answer.head));
            let mut allowed: Vec<String> =
                allow.split(',').map(|method| method.trim().to_uppercase()).collect();
            allowed.sort();
            assert_eq!(allowed, methods, "{method} {path}");
        }
    }
    // `DELETE` of an image exists, and so does `HEAD` of what can be read.
    daemon.ask("DELETE", "/images/x/tag", "").refused(404, "not_found");
    assert_eq!(daemon.ask("HEAD", "/devices", "").status, 200);
}

#[test]
fn the_openapi_document_is_the_one_in_git() {
    let daemon = Daemon::start();
    let document = daemon.get("/openapi.json").expect(200);
    assert_eq!(document["openapi"].as_str().unwrap().split('.').next(), Some("3"));
    references_resolve(&document, &document);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi.json");
    let text = format!("{document:#}\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(golden == text, "the interface changed; if it should, run this test with UPDATE=1");
}

/// Each `$ref` points to something.
fn references_resolve(document: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                let target = target.strip_prefix('#').unwrap();
                assert!(document.pointer(target).is_some(), "{target} does not exist");
            }
            fields.values().for_each(|value| references_resolve(document, value));
        }
        Value::Array(values) => values.iter().for_each(|value| references_resolve(document, value)),
        _ => {}
    }
}

#[test]
fn pods_of_virtual_machines() {
    let daemon = Daemon::start();
    let before = daemon.snapshot();
    let machine = |more: &str| {
        format!(
            "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {{name: web}}\nspec: {{template: {{spec: \
             {{domain: {{memory: {{guest: 1Gi}}, devices: {{{more}}}}}}}}}}}\n"
        )
    };
    let post = |body: Value| daemon.post("/pods", &body);
    let made = post(json!({ "machines": machine("") })).expect(200);
    let pods = made["pods"].as_str().unwrap();
    assert!(pods.starts_with("apiVersion: v1\nkind: Pod\n") && pods.contains("/dev/kvm"), "{pods}");
    assert!(made["explanation"].as_str().unwrap().starts_with("default/web\n"));
    let gpu = machine("gpus: [{name: a, deviceName: nvidia.com/GPU}]");
    let said = post(json!({ "machines": gpu, "devices": "vfio" })).refused(409, "invalid_state");
    assert!(said.contains("not on vfio"), "{said}");
    let made =
        post(json!({ "machines": gpu, "devices": "vfio", "allow_missing": true })).expect(200);
    assert!(made["notes"].to_string().contains("not on vfio"), "{made}");
    let said = post(json!({ "machines": "kind: x" })).refused(400, "invalid_request");
    assert!(said.contains("machines:1:1") || said.contains("no virtual machine"), "{said}");
    let limited = json!({ "machines": gpu, "gpu_memory_limit": "1Gi", "devices": "nodes", "allow_missing": true });
    let said = post(limited).refused(409, "invalid_state");
    assert!(said.contains("no dmem controller"), "{said}");
    post(json!({ "machines": gpu, "gpu_memory_limit": "1X", "allow_missing": true }))
        .refused(400, "invalid_request");
    post(json!({ "machines": machine(""), "devices": "magic" })).refused(400, "invalid_request");
    assert_eq!(daemon.snapshot(), before);
}

#[test]
fn clearing_another_handovers_mark_is_answered_with_a_note() {
    let daemon = Daemon::start();
    let mark = model::Mark {
        store: uuid::Uuid::nil(),
        claim: uuid::Uuid::nil(),
        state_dir: "/elsewhere".into(),
    };
    daemon.host.meddle(&model::Step::Mark { address: GPU.parse().unwrap(), mark }).unwrap();
    let clear = || daemon.ask("POST", &format!("/devices/{GPU}/clear"), "");
    let notes = clear().expect(200)["notes"].to_string();
    assert!(notes.contains(GPU) && notes.contains("/elsewhere"), "{notes}");
    clear().expect(204);
}
