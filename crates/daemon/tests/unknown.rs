//! Fields and parameters that Handover does not know: refused by our own calls, ignored with a warning by hypeman's.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{Daemon, GPU, NIC};

#[test]
fn our_own_calls_refuse_unknown_fields_by_name() {
    let daemon = Daemon::start();
    daemon.post("/claims", &json!({ "owner": "job/one", "wants": [NIC] })).expect(201);
    let before = (daemon.snapshot(), daemon.get("/claims").expect(200));
    for (path, body) in [
        ("/claims", json!({ "owner": "job/two", "wants": [GPU] })),
        ("/claims?dry_run=true", json!({ "owner": "job/two", "wants": [GPU] })),
        ("/claims/job%2Fone/prepare", json!({})),
        ("/claims/job%2Fone/unprepare", json!({})),
        ("/claims/job%2Fone/renew", json!({ "lease_seconds": 60 })),
        ("/pods", json!({ "machines": "{}" })),
        ("/sriov/0000:03:00.0", json!({ "count": 0 })),
        ("/return", json!({ "all": true })),
        ("/reconcile", json!({})),
        ("/devices/0000:01:00.0/bind", json!({})),
        ("/devices/0000:01:00.0/unbind", json!({})),
        ("/devices/0000:01:00.0/reset", json!({})),
        ("/devices/0000:01:00.0/clear", json!({})),
        ("/instances/vm/pause", json!({})),
        ("/instances/vm/resume", json!({})),
    ] {
        let mut wrong: Value = body;
        wrong["evct"] = json!(true);
        let said = daemon.post(path, &wrong).refused(400, "invalid_request");
        assert!(said.contains("evct"), "{path}: {said}");
    }
    assert_eq!((daemon.snapshot(), daemon.get("/claims").expect(200)), before);
}

#[test]
fn unknown_parameters_are_refused_by_name() {
    let daemon = Daemon::start();
    let document = daemon.get("/openapi.json").expect(200);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{key}", "x").replace("{name}", "a%2Fb");
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let answer = daemon.ask(&method, &format!("{path}?colour=red"), "");
            let said = answer.refused(400, "invalid_request");
            assert!(said.contains("`colour`"), "{method} {path}: {said}");
        }
    }
    // Near misses of parameters that change what happens.
    let claim = json!({ "owner": "job/one", "wants": [NIC] });
    daemon.post("/claims?dryrun=true", &claim).refused(400, "invalid_request");
    daemon.get("/devices?tag[a]=b").refused(400, "invalid_request");
    daemon.get("/devices?tags[a]=b").expect(200);
    assert_eq!(daemon.ask("HEAD", "/devices?colour=red", "").status, 400);
    assert_eq!(daemon.get("/claims").expect(200), json!([]));
}

#[test]
fn hypemans_calls_ignore_unknown_fields_with_a_warning() {
    let daemon = Daemon::start();
    daemon.import("debian");
    let warned = |answer: &Value, field: &str| {
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains(&format!("`{field}`")), "{answer}");
    };
    let device = json!({ "pci_address": GPU, "name": "gpu0", "numa": 1 });
    warned(&daemon.post("/devices", &device).expect(201), "numa");
    let image = json!({ "name": "debian", "platform": "linux/amd64" });
    warned(&daemon.post("/images", &image).expect(202), "platform");
    let body = json!({ "name": "vm", "image": "debian", "skip_guest_agent": true });
    warned(&daemon.post("/instances", &body).expect(201), "skip_guest_agent");
    warned(&daemon.post("/instances/vm/stop", &json!({ "force": true })).expect(200), "force");
    daemon.post("/instances/vm/start", &json!({ "cmd": ["true"] })).refused(409, "invalid_state");
    warned(&daemon.post("/instances/vm/start", &json!({ "x": 1, "cmd": [] })).expect(200), "x");
    // A known request has none.
    let shown = daemon.get("/instances/vm").expect(200);
    assert!(shown.get("warnings").is_none(), "{shown}");
    daemon.ask("DELETE", "/instances/vm?graceful_shutdown=true", "").expect(204);
    // Very many are counted.
    let mut many = json!({ "pci_address": NIC });
    for number in 0..100 {
        many[format!("field{number}")] = json!(1);
    }
    let warnings = daemon.post("/devices", &many).expect(201)["warnings"].clone();
    let warnings = warnings.as_array().unwrap();
    assert_eq!(warnings.len(), 17);
    assert_eq!(warnings[16], "84 more fields are ignored");
}

/// The calls that refuse unknown fields, as docs/rest.md lists them.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../../docs/rest.md");
    let (_, list) = text.split_once("field of a body is refused on our own calls:").unwrap();
    let (list, _) = list.split_once("The refusal is").unwrap();
    let quoted = list.split('`').skip(1).step_by(2);
    quoted.map(|call| call.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_document_lists_the_calls_that_refuse_unknown_fields() {
    let daemon = Daemon::start();
    let document = daemon.get("/openapi.json").expect(200);
    let mut refusing = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let at = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            if !matches!(method.as_str(), "POST" | "PATCH" | "PUT") {
                continue;
            }
            let answer = daemon.ask(&method, &at, r#"{"no_such_field": 1}"#);
            if answer.body.contains("unknown field `no_such_field`") {
                assert_eq!(answer.status, 400, "{method} {path}");
                refusing.insert(format!("{method} {path}"));
            }
        }
    }
    assert_eq!(documented(), refusing);
}
