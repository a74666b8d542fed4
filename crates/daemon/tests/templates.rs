//! Templates over real sockets: the request that makes an instance, sent again.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use serde_json::json;
use support::{Daemon, GPU};

#[test]
fn a_template_makes_the_same_instance_once() {
    let daemon = Daemon::start();
    daemon.register("gpu0", GPU);
    daemon.import("debian");
    daemon.post("/volumes", &json!({ "name": "data", "size_gb": 1 })).expect(201);
    let body = json!({
        "name": "vm", "image": "debian", "devices": ["gpu0"], "size": "1024MB", "vcpus": 2,
        "disks": [{ "size": "64MB", "bus": "nvme" }], "volumes": [{ "volume_id": "data", "mount_path": "/data" }],
        "display": { "protocol": "vnc" }, "network": { "forwards": ["8080:80"] }, "hostname": "dev",
        "restart_policy": { "policy": "always" },
    });
    let created = daemon.post("/instances?once=true", &body).expect(201);
    let again = daemon.post("/instances?once=true", &body).expect(200);
    assert_eq!(again["id"], created["id"]);
    let template = daemon.get("/instances/vm/template").expect(200);
    assert_eq!(template["disks"][0]["serial"], "disk1");
    assert_eq!(template["volumes"][0]["volume_id"], "data");
    assert_eq!(template["devices"], json!(["gpu0"]));
    assert_eq!(template["network"]["forwards"], json!(["127.0.0.1:8080:80/tcp"]));
    let same = daemon.post("/instances?once=true", &template).expect(200);
    assert_eq!(same["id"], created["id"]);
    let mut other = body.clone();
    other["vcpus"] = json!(3);
    other["devices"] = json!([]);
    let why = daemon.post("/instances?once=true", &other).refused(409, "name_conflict");
    assert!(why.contains("vcpus: 3 asked for, 2 there") && why.contains("devices: []"), "{why}");
    daemon.post("/instances", &body).refused(409, "name_conflict");
    daemon.ask("DELETE", "/instances/vm", "").expect(204);
    let made = daemon.post("/instances", &template).expect(201);
    assert_eq!(made["network"], created["network"], "as it was");
    daemon.get("/instances/none/template").refused(404, "not_found");
}

#[test]
fn a_block_device_is_shown_with_its_name_and_size() {
    let daemon = Daemon::start();
    daemon.import("debian");
    let path = format!("{}/ata-1", sim::BLOCKS);
    let device = model::BlockDevice {
        path: path.clone().into(),
        name: "sda".into(),
        number: (8, 0),
        disk: None,
        size: 1 << 40,
        sector: 512,
        ..model::BlockDevice::default()
    };
    let data = vec!["an XFS file system".to_owned()];
    daemon.host.set_block(device, model::BlockUse { data, ..model::BlockUse::default() });
    let body = json!({ "name": "vm", "image": "debian", "blocks": [{ "device": "ata-1", "bus": "scsi" }] });
    let why = daemon.post("/instances", &body).refused(409, "in_use");
    assert!(why.contains("an XFS file system"), "{why}");
    let mut body = body;
    body["blocks"][0]["allow_data"] = json!(true);
    let created = daemon.post("/instances", &body).expect(201);
    let shown = json!([{ "device": path, "bus": "scsi", "serial": "ata-1", "allow_data": true, "size": "1TB" }]);
    assert_eq!(created["blocks"], shown);
    let template = daemon.get("/instances/vm/template").expect(200);
    assert_eq!(template["blocks"][0]["device"], path);
    daemon.post("/instances?once=true", &template).expect(200);
    daemon.post("/instances/vm/stop", &json!({})).expect(200);
    let without = daemon.ask("DELETE", "/instances/vm/blocks/ata-1", "").expect(200);
    assert!(without.get("blocks").is_none(), "{without:#}");
    daemon.post("/instances/vm/blocks", &json!({ "device": "ata-1" })).refused(409, "in_use");
    let attached = json!({ "device": "ata-1", "allow_data": true, "readonly": true });
    let with = daemon.post("/instances/vm/blocks", &attached).expect(200);
    assert_eq!(with["blocks"][0]["readonly"], true);
    daemon
        .post("/instances/vm/blocks", &json!({ "device": "none" }))
        .refused(404, "device_not_found");
}
