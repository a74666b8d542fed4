//! The whole REST interface against its own description: schemathesis sends what `GET /openapi.json` allows and what it
//! forbids, to a daemon on a simulated host, and compares the answers with the document.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::json;
use sim::SimAgent;
use support::{Daemon, GPU, NIC};

#[test]
fn the_interface_is_as_its_document_says() {
    let Some(schemathesis) = std::env::var_os("HANDOVER_SCHEMATHESIS") else {
        println!(
            "SKIPPED: HANDOVER_SCHEMATHESIS names no schemathesis (scripts/test-rest sets it)"
        );
        return;
    };
    let token = "a-token-for-schemathesis";
    let daemon = Daemon::on(sim::workstation(), Some(token));
    let before = daemon.snapshot();
    // Something to find for the calls that take an id, a name or an address.
    daemon.import("debian");
    daemon.register("gpu0", GPU);
    let vm = daemon.post("/instances", &json!({ "name": "vm", "image": "debian" })).expect(201);
    // A silent one would make each command take seconds.
    let id = vm["id"].as_str().unwrap().parse().unwrap();
    daemon.launcher.set_agent(id, Some(SimAgent::default()));
    daemon.post("/claims", &json!({ "owner": "job/one", "wants": [NIC] })).expect(201);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    // From a file: a document that it loads by its URL, schemathesis does not ask for.
    let document = daemon.dir.path().join("openapi.json");
    std::fs::write(&document, daemon.get("/openapi.json").body).unwrap();
    let status = Command::new(schemathesis)
        .current_dir(daemon.dir.path())
        .arg("--config-file")
        .arg(here.join("schemathesis.toml"))
        .args(["run", "--checks", "all", "--no-color"])
        .arg(document)
        .args(["--url", &format!("http://{}", daemon.address)])
        .env("SCHEMATHESIS_HOOKS", here.join("hooks.py"))
        .env("HANDOVER_TOKEN", token)
        .status()
        .unwrap();
    assert!(status.success(), "schemathesis found something: see above");
    // Whatever it did: released claims and deleted machines leave the host as it was.
    for claim in daemon.get("/claims").expect(200).as_array().unwrap() {
        if !claim["owner"].as_str().unwrap().starts_with("instance/") {
            let released =
                daemon.ask("DELETE", &format!("/claims/{}", claim["id"].as_str().unwrap()), "");
            assert!([200, 204].contains(&released.status), "{}", released.body);
        }
    }
    for instance in daemon.get("/instances").expect(200).as_array().unwrap() {
        daemon
            .ask("DELETE", &format!("/instances/{}", instance["id"].as_str().unwrap()), "")
            .expect(204);
    }
    assert_eq!(daemon.snapshot(), before);
}
