//! Devices of instances in the grammar of claims, vGPUs in the resources, and devices by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use daemon::serve::HOLD_CHANGES;
use serde_json::{Value, json};
use support::{Daemon, GPU, NIC};

const MDEV_GPU: &str = "0000:03:00.0";
const VF_GPU: &str = "0000:04:00.0";

fn profile(resources: &Value, name: &str) -> (u64, u64) {
    let profiles = resources["gpu"]["profiles"].as_array().unwrap();
    let one = profiles.iter().find(|one| one["name"] == name);
    let one = one.unwrap_or_else(|| panic!("no {name} in {resources:#}"));
    (one["framebuffer_mb"].as_u64().unwrap(), one["available"].as_u64().unwrap())
}

fn slots(resources: &Value) -> (u64, u64) {
    let gpu = &resources["gpu"];
    (gpu["total_slots"].as_u64().unwrap(), gpu["used_slots"].as_u64().unwrap())
}

#[test]
fn resources_count_vgpus_by_both_mechanisms() {
    let daemon = Daemon::on(sim::server(), None);
    let resources = || daemon.get("/resources").expect(200);
    let before = resources();
    assert_eq!(before["gpu"]["mode"], "vgpu");
    // Ten mediated devices of the smallest type. No GPU is registered.
    assert_eq!(slots(&before), (10, 0));
    assert_eq!(profile(&before, "A100-10C").1, 4);
    // The sixteen virtual functions of the other GPU.
    daemon
        .post(&format!("/sriov/{VF_GPU}"), &json!({ "count": 16, "autoprobe": true }))
        .expect(204);
    let with_vfs = resources();
    assert_eq!(slots(&with_vfs), (26, 0));
    assert_eq!(profile(&with_vfs, "L40S-4Q"), (4096, 12));
    assert_eq!(profile(&with_vfs, "L40S-48Q"), (48 << 10, 1));
    let wants = json!(["3xprofile=L40S-8Q", "2xprofile=A100-10C"]);
    daemon.post("/claims", &json!({ "owner": "job/one", "wants": wants })).expect(201);
    let used = resources();
    // Of the mediated devices, five of the smallest type still fit.
    assert_eq!(slots(&used), (23, 5));
    assert_eq!(profile(&used, "L40S-8Q"), (8192, 3));
    assert_eq!(profile(&used, "L40S-4Q").1, 6);
    assert_eq!(profile(&used, "A100-10C").1, 2);
    assert_eq!(profile(&used, "A100-40C").1, 0);
    // What is only reserved counts too.
    let reserve = json!({ "owner": "job/two", "wants": ["profile=A100-10C"], "prepare": false });
    daemon.post("/claims", &reserve).expect(201);
    // Beside them two of the smallest type fit.
    assert_eq!((slots(&resources()), profile(&resources(), "A100-10C").1), ((21, 6), 1));
    for owner in ["job%2Fone", "job%2Ftwo"] {
        daemon.ask("DELETE", &format!("/claims/{owner}"), "").expect(204);
    }
    assert_eq!(resources(), with_vfs);
}

#[test]
fn a_gpu_with_vgpus_is_not_available_as_a_whole() {
    let daemon = Daemon::on(sim::server(), None);
    daemon.register("a100", MDEV_GPU);
    let available = |address: &str| {
        let resources = daemon.get("/resources").expect(200);
        let devices = resources["gpu"]["devices"].as_array().unwrap().clone();
        let one = devices.into_iter().find(|one| one["pci_address"] == address).unwrap();
        (one["name"].as_str().unwrap().to_owned(), one["available"].as_bool().unwrap())
    };
    assert_eq!(available(MDEV_GPU), ("a100".to_owned(), true));
    assert_eq!(available("0000:05:00.0"), ("pci-0000-05-00-0".to_owned(), true));
    let claim = json!({ "owner": "job/one", "wants": ["profile=A100-4C"] });
    daemon.post("/claims", &claim).expect(201);
    assert_eq!(available(MDEV_GPU), ("a100".to_owned(), false));
}

const DEVICES: &str = r#"
vendors:
  - id: "0x10de"
    name: nvidia
    devices:
      - { id: "0x030200", name: ga100gl.rev.a1, type: gpu }
  - id: "0x8086"
    name: intel
    devices:
      - { id: "0x1889", name: e810.vf, type: network }
"#;

/// How many devices a resource has, how many of them are claimed and available, and by whom they are claimed.
fn resource(daemon: &Daemon, name: &str) -> Option<(u64, u64, u64, Value)> {
    let resources = daemon.get("/resources").expect(200);
    let all = resources["pci"].as_array().unwrap();
    let one = all.iter().find(|one| one["name"] == name)?;
    let number = |key: &str| one[key].as_u64().unwrap();
    Some((number("capacity"), number("allocated"), number("available"), one["claimed_by"].clone()))
}

#[test]
fn requests_name_the_resources_of_the_devices_file() {
    let daemon = Daemon::begun(sim::server(), None, None, HOLD_CHANGES, |daemon| {
        std::fs::write(daemon.devices_file(), DEVICES).unwrap();
    });
    daemon.import("debian");
    daemon.post("/sriov/0000:01:00.0", &json!({ "count": 2 })).expect(204);
    let before = daemon.snapshot();
    let pci = |name: &str| resource(&daemon, name);
    assert_eq!(pci("gpu.nvidia/ga100gl.rev.a1"), Some((2, 0, 2, json!([]))));
    assert_eq!(pci("network.intel/e810.vf"), Some((2, 0, 2, json!([]))));
    assert_eq!(pci("nvidia.com/gpu"), Some((3, 0, 3, json!([]))));
    // As a claim, and as devices of an instance.
    let wants =
        json!(["network.intel/e810.vf", { "any": { "resource": "gpu.nvidia/ga100gl.rev.a1" } }]);
    let claim = daemon.post("/claims", &json!({ "owner": "job/one", "wants": wants })).expect(201);
    let heads: Vec<&Value> =
        claim["parts"].as_array().unwrap().iter().map(|one| &one["head"]).collect();
    assert!(heads[0].as_str().unwrap().starts_with("0000:01:"), "{heads:?}");
    let devices = json!(["gpu.nvidia/ga100gl.rev.a1", "network.intel/e810.vf"]);
    daemon
        .post("/instances", &json!({ "name": "vm", "image": "debian", "devices": devices }))
        .expect(201);
    let (total, allocated, available, owners) = pci("gpu.nvidia/ga100gl.rev.a1").unwrap();
    assert_eq!((total, allocated, available), (2, 2, 0));
    assert_eq!(owners.as_array().unwrap().len(), 2, "{owners}");
    let more = json!({ "owner": "job/two", "wants": ["gpu.nvidia/ga100gl.rev.a1"] });
    let refused = daemon.post("/claims", &more).expect(409);
    assert_eq!(refused["code"], "insufficient_resources", "{refused:#}");
    for wrong in ["gpu.nvidia/ga100gl", "nothing.at/all"] {
        let wrong = json!({ "owner": "job/two", "wants": [wrong] });
        assert_eq!(daemon.post("/claims", &wrong).expect(404)["code"], "not_found");
    }
    // A wrong file changes nothing. With another one, what is allocated stays.
    let reload = |text: &str| {
        std::fs::write(daemon.devices_file(), text).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP)
            .unwrap();
    };
    reload("vendors: 7");
    reload(&DEVICES.replace("ga100gl.rev.a1", "other"));
    let until = Instant::now() + Duration::from_secs(20);
    while pci("gpu.nvidia/other").is_none() {
        assert!(Instant::now() < until, "the file is not read again");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(pci("gpu.nvidia/ga100gl.rev.a1"), None);
    assert_eq!(pci("gpu.nvidia/other").unwrap().1, 2);
    daemon.post("/instances/vm/stop", &json!({})).expect(200);
    daemon.post("/instances/vm/start", &json!({})).expect(200);
    daemon.ask("DELETE", "/instances/vm", "").expect(204);
    daemon.ask("DELETE", "/claims/job%2Fone", "").expect(204);
    assert_eq!(daemon.snapshot(), before);
}

#[test]
fn an_instance_takes_what_a_claim_takes() {
    let daemon = Daemon::on(sim::server(), None);
    daemon.import("debian");
    daemon.register("big", "0000:05:00.0");
    daemon.post(&format!("/sriov/{VF_GPU}"), &json!({ "count": 4, "autoprobe": true })).expect(204);
    daemon.post("/sriov/0000:01:00.0", &json!({ "count": 2 })).expect(204);
    let before = daemon.snapshot();
    let wishes = json!([
        "profile=A100-4C",
        "big",
        "pci_0000_02_00_0",
        { "profile": { "profile": "L40S-4Q" } },
        "2xvf@0000:01:00.0,vlan=7"
    ]);
    let body = json!({ "name": "vm", "image": "debian", "devices": wishes, "gpu": { "profile": "L40S-8Q" } });
    let made = daemon.post("/instances", &body).expect(201);
    let attached = made["attached"].as_array().unwrap();
    let heads: Vec<&str> =
        attached.iter().map(|one| one["pci_address"].as_str().unwrap()).collect();
    assert_eq!(heads.len(), 7, "{made:#}");
    assert_eq!((heads[0], heads[1], heads[2]), (MDEV_GPU, "0000:05:00.0", "0000:02:00.0"));
    assert_eq!(attached[0]["profile"], "A100-4C");
    assert_eq!(attached[0]["mdev_uuid"], made["gpu"]["mdev_uuid"]);
    assert_eq!((&attached[1]["name"], attached[1].get("profile")), (&json!("big"), None));
    assert_eq!(attached[3]["profile"], "L40S-4Q");
    assert_eq!(attached[6]["profile"], "L40S-8Q");
    assert_eq!(made["gpu"]["profile"], "A100-4C", "the first one");
    assert_eq!(made["devices"].as_array().unwrap().len(), 1, "registered ones by id");
    assert_eq!(daemon.get("/instances").expect(200)[0]["attached"], made["attached"]);
    assert_eq!(daemon.get("/devices/big").expect(200)["attached_to"], made["id"]);
    daemon.post("/instances/vm/stop", &json!({})).expect(200);
    let started = daemon.post("/instances/vm/start", &json!({})).expect(200);
    assert_eq!(started["attached"], made["attached"]);
    daemon.ask("DELETE", "/instances/vm", "").expect(204);
    assert_eq!(daemon.snapshot(), before);
}

#[test]
fn any_gpu_is_found_for_an_instance_and_named() {
    let daemon = Daemon::start();
    daemon.import("debian");
    daemon.register("l4-gpu", GPU);
    let before = daemon.snapshot();
    let post = |devices: Value| {
        daemon.post("/instances", &json!({ "name": "vm", "image": "debian", "devices": devices }))
    };
    post(json!(["gpuu"])).refused(404, "not_found");
    let remedy = post(json!(["gpuu"])).json()["details"]["remedy"].to_string();
    assert!(remedy.contains("did you mean `gpu`?"), "{remedy}");
    post(json!(["l4-gpu", "0000:01:00.0"])).refused(400, "invalid_request");
    post(json!(["l4-gpu", "vf@"])).refused(400, "invalid_request");
    post(json!(["1024xgpu", "gpu"])).refused(409, "insufficient_resources");
    assert_eq!(daemon.snapshot(), before);
    // Two at once are of one model, which this host does not have.
    post(json!(["2xgpu"])).refused(409, "insufficient_resources");
    let made = post(json!(["gpu", "gpu"])).expect(201);
    // The registered one of the two is attached under its name.
    assert_eq!(daemon.get("/devices/l4-gpu").expect(200)["attached_to"], made["id"]);
    assert_eq!(made["attached"].as_array().unwrap().len(), 2);
    daemon.ask("DELETE", "/instances/vm", "").expect(204);
    assert_eq!(daemon.snapshot(), before);
}

#[test]
fn a_device_is_bound_reset_and_unbound_by_hand() {
    let daemon = Daemon::start();
    daemon.register("l4-gpu", GPU);
    let before = daemon.snapshot();
    let ask = |what: &str, body: Value| daemon.post(&format!("/devices/l4-gpu/{what}"), &body);
    let bound = ask("bind", json!({})).expect(201);
    assert_eq!((&bound["owner"], &bound["state"]), (&json!("device/l4-gpu"), &json!("prepared")));
    assert_eq!(daemon.ask("POST", "/devices/l4-gpu/bind", "").expect(200)["id"], bound["id"]);
    let device = daemon.get("/devices/l4-gpu").expect(200);
    assert_eq!((&device["bound_to_vfio"], &device["state"]), (&json!(true), &json!("claimed")));
    // Others are told whose it is.
    for (what, body) in [
        ("bind", json!({ "owner": "job/two" })),
        ("unbind", json!({ "owner": "job/two" })),
        ("reset", json!({ "owner": "job/two" })),
    ] {
        let said = ask(what, body).refused(409, "in_use");
        assert!(said.contains("claimed by device/l4-gpu"), "{what}: {said}");
    }
    // Also by its address: it is the same device.
    daemon.post(&format!("/devices/{GPU}/reset"), &json!({})).expect(204);
    assert_eq!(daemon.host.resets().len(), 2, "the GPU and its audio function");
    assert_eq!(daemon.get("/claims").expect(200)[0]["state"], "prepared");
    ask("unbind", json!({})).expect(204);
    let again = ask("unbind", json!({})).expect(200);
    assert_eq!(again["notes"][0], format!("{GPU} was not bound: nothing was changed"));
    assert_eq!(daemon.get("/claims").expect(200), json!([]));
    assert_eq!(daemon.snapshot(), before);
    // A reset of a device that is not bound leaves it as it was.
    ask("reset", json!({ "owner": "person/ann" })).expect(204);
    assert_eq!(daemon.host.resets().len(), 4);
    assert_eq!(daemon.get("/claims").expect(200), json!([]));
    assert_eq!(daemon.snapshot(), before);
    daemon.ask("POST", "/devices/none/bind", "").refused(404, "not_found");
    daemon.ask("POST", "/devices/0000:00:01.0/bind", "").refused(409, "not_assignable");
    ask("bind", json!({ "owner": "instance/x" })).refused(400, "invalid_request");
}

#[test]
fn a_reset_that_would_reach_others_is_refused() {
    let daemon = Daemon::on(sim::gpus(), None);
    let before = daemon.snapshot();
    let said = daemon.ask("POST", "/devices/0000:11:00.0/reset", "").refused(409, "invalid_state");
    assert!(said.contains("would also reset 0000:11:01.0"), "{said}");
    assert_eq!(daemon.snapshot(), before);
    assert!(daemon.host.resets().is_empty());
}

#[test]
fn what_no_claim_bound_is_not_unbound() {
    let daemon = Daemon::start();
    let script = |state: &mut sim::FunctionState| state.driver = Some("vfio-pci".into());
    daemon.host.change(NIC.parse().unwrap(), script);
    let answer = daemon.ask("POST", &format!("/devices/{NIC}/unbind"), "");
    assert!(answer.json()["details"]["remedy"].to_string().contains("handover return"));
    answer.refused(409, "invalid_state");
    let two = json!({ "owner": "device/0000:01:00.0", "wants": [GPU, "nvme"] });
    daemon.post("/claims", &two).expect(201);
    let said =
        daemon.ask("POST", &format!("/devices/{GPU}/unbind"), "").refused(409, "invalid_state");
    assert!(said.contains("one of 2 devices"), "{said}");
}

#[test]
fn a_driver_that_another_tool_unset_is_told_at_release() {
    let daemon = Daemon::start();
    daemon.post("/claims", &json!({ "owner": "job/one", "wants": [NIC] })).expect(201);
    daemon.host.change(NIC.parse().unwrap(), |state: &mut sim::FunctionState| state.driver = None);
    let released = daemon.ask("DELETE", "/claims/job%2Fone", "").expect(200);
    let notes = released["notes"].to_string();
    assert!(notes.contains("another tool unbound it from vfio-pci"), "{notes}");
    let function = &daemon.get("/inventory").expect(200)["functions"][NIC];
    assert_eq!(function["driver"], "e1000e", "it returns to its driver all the same");
}

#[test]
fn devices_are_returned_by_their_names() {
    let daemon = Daemon::start();
    daemon.register("nic0", NIC);
    for path in ["/return", "/recover"] {
        for key in ["nic0", "03:00.0", "pci_0000_03_00_0"] {
            let returned = daemon.post(path, &json!({ "addresses": [key] })).expect(200);
            assert_eq!(returned[0]["pci_address"], NIC, "{path} {key}");
        }
    }
    daemon.post("/return", &json!({ "addresses": ["nic1"] })).refused(404, "not_found");
}

#[test]
fn images_are_listed_by_tags_and_sizes_need_a_disk() {
    let daemon = Daemon::start();
    daemon.import("debian");
    let kernel = daemon.dir.path().join("vmlinux");
    let mut bytes = vec![0; 2048];
    bytes[0x1fe..0x206].copy_from_slice(b"\x55\xaa\xeb\x66HdrS");
    std::fs::write(&kernel, bytes).unwrap();
    let body = json!({ "name": "small", "kernel": kernel, "tags": { "by": "me" } });
    daemon.post("/images", &body).expect(202);
    daemon.until_ready("small");
    let names = |query: &str| {
        let all = daemon.get(&format!("/images{query}")).expect(200);
        let all = all.as_array().unwrap().clone();
        all.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((names("").len(), names("?tags[by]=me")), (2, vec!["small".to_owned()]));
    assert!(names("?tags[by]=you").is_empty());
    // The same rule as for every parameter: once, with a key and a value.
    for query in
        ["tags[]=", "tags[]=me", "tags[by]", "tags[by]=", "tags=me", "tags[by]=me&tags[by]=you"]
    {
        daemon.get(&format!("/images?{query}")).refused(400, "invalid_request");
    }
    let body = json!({ "name": "vm", "image": "small", "overlay_size": "20GB" });
    let said = daemon.post("/instances", &body).refused(400, "invalid_size");
    assert!(said.contains("no disk"), "{said}");
    let body = json!({ "name": "vm", "image": "small" });
    let made = daemon.post("/instances", &body).expect(201);
    // Absent, as in hypeman's types, and not null.
    assert!(made.get("overlay_size").is_none() && made.get("gpu").is_none(), "{made:#}");
    assert!(made["expires_at"].is_null() && made.get("expires_at").is_some(), "{made:#}");
}
