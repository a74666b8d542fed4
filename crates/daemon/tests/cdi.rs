//! A claim has a CDI spec exactly while it is prepared.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use convert::cdi::Spec;
use engine::{ClaimRequest, Config, Engine, Silent};
use insta::assert_snapshot;
use serde_json::json;
use service::cdi::{Folder, Keeper};
use sim::SimHost;
use support::{Daemon, GPU, NIC};

/// The files of a directory by name; empty if it does not exist.
fn files(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_claim_has_a_file_while_it_is_prepared() {
    let daemon = Daemon::start();
    let body = json!({ "owner": "person/anna", "wants": [GPU], "prepare": false });
    let claim = daemon.post("/claims", &body).expect(201);
    let id = claim["id"].as_str().unwrap();
    assert_eq!(files(&daemon.cdi()), Vec::<String>::new());
    let prepared = daemon.post(&format!("/claims/{id}/prepare"), &json!({})).expect(200);
    assert_eq!(prepared["attach"]["cdi"], format!("handover.dev/claim={id}"));
    assert_eq!(files(&daemon.cdi()), [format!("handover.dev-claim-{id}.json")]);
    let text = fs::read_to_string(daemon.cdi().join(&files(&daemon.cdi())[0])).unwrap();
    let spec: Spec = serde_json::from_str(&text).unwrap();
    let version = if id.starts_with(|c: char| c.is_ascii_digit()) { "0.5.0" } else { "0.3.0" };
    assert_eq!(spec.cdi_version, version);
    assert_snapshot!(text.replace(id, "ID").replace("0.5.0", "0.3.0"));
    daemon.post(&format!("/claims/{id}/unprepare"), &json!({})).expect(200);
    assert_eq!(files(&daemon.cdi()), Vec::<String>::new());
    daemon.post(&format!("/claims/{id}/prepare"), &json!({})).expect(200);
    assert_eq!(files(&daemon.cdi()).len(), 1);
    daemon.ask("DELETE", &format!("/claims/{id}"), "").expect(204);
    assert_eq!(files(&daemon.cdi()), Vec::<String>::new());
}

#[test]
fn a_machines_devices_are_not_offered_to_containers() {
    let daemon = Daemon::start();
    daemon.import("debian");
    daemon.register("gpu0", GPU);
    let body = json!({ "name": "vm", "image": "debian", "devices": ["gpu0"] });
    daemon.post("/instances", &body).expect(201);
    assert_eq!(daemon.get("/claims").expect(200)[0]["state"], "prepared");
    assert_eq!(files(&daemon.cdi()), Vec::<String>::new());
}

/// An engine that writes CDI specs to a directory, or none, like one that dies before.
fn engine(state: &Path, host: &Arc<SimHost>, cdi: Option<&Path>) -> Engine {
    let folder = cdi.map(Folder::new);
    let keeper = Arc::new(Keeper::new(folder, Arc::new(Silent), |text| panic!("{text}")));
    let config = Config {
        state_dir: state.to_owned(),
        image_dirs: Vec::new(),
        block_dirs: Vec::new(),
        image_limits: engine::ImageLimits::default(),
        machine_uids: 0..0,
        shutdown_grace: Duration::from_secs(1),
        journal_timeout: engine::JOURNAL_TIMEOUT,
        journal_kept: engine::JournalKept::default(),
        guest_init: None,
    };
    let engine = Engine::open(config, host.clone(), Vec::new(), keeper.clone()).unwrap();
    keeper.begin(&engine);
    engine.recover().unwrap();
    keeper.compare();
    engine
}

#[test]
fn files_are_compared_with_the_claims_at_each_start() {
    let (state, cdi) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Arc::new(SimHost::new(sim::workstation()));
    let claim = |engine: &Engine, what: &str| {
        let owner = format!("job/{what}").parse().unwrap();
        let request = ClaimRequest::new(owner, vec![what.parse().unwrap()]);
        engine.claims().claim(&request).unwrap().claim.id.to_string()
    };
    let first = engine(state.path(), &host, None);
    let (gpu, nic) = (claim(&first, GPU), claim(&first, NIC));
    drop(first);
    assert_eq!(files(cdi.path()), Vec::<String>::new());

    fs::write(cdi.path().join("nvidia.yaml"), "others'").unwrap();
    drop(engine(state.path(), &host, Some(cdi.path())));
    let mut both =
        vec![format!("handover.dev-claim-{gpu}.json"), format!("handover.dev-claim-{nic}.json")];
    both.sort();
    both.push("nvidia.yaml".to_owned());
    assert_eq!(files(cdi.path()), both);

    let dying = engine(state.path(), &host, None);
    dying.claims().release(&gpu, None).unwrap();
    drop(dying);
    let last = engine(state.path(), &host, Some(cdi.path()));
    assert_eq!(files(cdi.path()), [&format!("handover.dev-claim-{nic}.json"), "nvidia.yaml"]);
    last.claims().release(&nic, None).unwrap();
    assert_eq!(files(cdi.path()), ["nvidia.yaml"]);
}

#[test]
fn a_claim_is_granted_even_if_no_cdi_spec_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let host = Arc::new(SimHost::new(sim::workstation()));
    let keeper = Keeper::new(Some(Folder::new(&file)), Arc::new(Silent), |text| {
        assert!(text.contains("cannot write"), "{text}");
    });
    let keeper = Arc::new(keeper);
    let config = Config {
        state_dir: dir.path().join("state"),
        image_dirs: Vec::new(),
        block_dirs: Vec::new(),
        image_limits: engine::ImageLimits::default(),
        machine_uids: 0..0,
        shutdown_grace: Duration::from_secs(1),
        journal_timeout: engine::JOURNAL_TIMEOUT,
        journal_kept: engine::JournalKept::default(),
        guest_init: None,
    };
    let engine = Engine::open(config, host, Vec::new(), keeper.clone()).unwrap();
    keeper.begin(&engine);
    let request = ClaimRequest::new("job/1".parse().unwrap(), vec![GPU.parse().unwrap()]);
    assert_eq!(engine.claims().claim(&request).unwrap().claim.state, model::ClaimState::Prepared);
}
