//! Full scans of the host through the daemon: its device tree, and the doctor's findings.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use model::Host;
use model::doctor::Verdict;
use model::topology::{Picture, Wanted, svg};
use serde_json::{Value, json};
use support::{Answer, Daemon, GPU, NIC};

fn accepting(daemon: &Daemon, path: &str, accept: &str) -> Answer {
    daemon.raw(&format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: {accept}\r\n\r\n"
    ))
}

#[test]
fn the_tree_is_that_of_the_command_as_json_and_as_a_picture() {
    let daemon = Daemon::start();
    let inventory = daemon.host.inventory().unwrap();
    let picture = |all| Picture::of(&inventory, Wanted { all, ..Wanted::default() });
    let expected = serde_json::to_value(picture(false)).unwrap();
    assert_eq!(daemon.get("/topology").expect(200), expected);
    assert_eq!(daemon.get("/topology?format=json").expect(200), expected);
    assert_ne!(expected["distances"], json!([]));
    let everything = daemon.get("/topology?all=true&distances=true").expect(200);
    assert_eq!(everything, serde_json::to_value(picture(true)).unwrap());
    for answer in [
        daemon.get("/topology?format=svg"),
        accepting(&daemon, "/topology", "image/svg+xml,image/*;q=0.8,*/*;q=0.5"),
    ] {
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-type: image/svg+xml"), "{}", answer.head);
        assert!(answer.head.contains("vary: accept"), "{}", answer.head);
        assert!(answer.head.contains("default-src 'none'"), "{}", answer.head);
        assert_eq!(answer.body, svg::render(&picture(false)));
    }
    let asked = accepting(&daemon, "/topology?format=json", "image/svg+xml");
    assert_eq!(asked.expect(200), expected, "what is asked for by name is given");
    daemon.get("/topology?format=png").refused(400, "invalid_request");
    daemon.get("/topology?all=perhaps").refused(400, "invalid_request");
}

#[test]
fn the_doctor_says_what_stands_in_the_way_and_how_to_mend_it() {
    let daemon = Daemon::start();
    let answer = daemon.get("/doctor").expect(200);
    let verdict: Verdict = serde_json::from_value(answer.clone()).unwrap();
    let forbidden = verdict
        .findings
        .iter()
        .find(|finding| finding.read.contains("blacklist vfio-pci") && finding.remedy.is_some());
    assert!(forbidden.is_some(), "{answer:#}");
    let addresses = |answer: &Value| -> Vec<Value> {
        let findings = answer["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["address"].clone()).collect()
    };
    assert!(addresses(&answer).contains(&Value::Null), "{answer:#}");
    for (one, other) in [(GPU, NIC), (NIC, GPU)] {
        let only = daemon.get(&format!("/doctor?for={one}")).expect(200);
        assert!(addresses(&only).contains(&json!(one)), "{only:#}");
        assert!(!addresses(&only).contains(&json!(other)), "{only:#}");
        assert!(
            addresses(&only).contains(&Value::Null),
            "findings of the host concern all devices"
        );
    }
}

#[test]
fn the_doctor_refuses_what_is_no_function() {
    let daemon = Daemon::start();
    daemon.get("/doctor?for=the-gpu").refused(400, "invalid_pci_address");
    daemon.get("/doctor?for=0000:77:00.0").refused(404, "device_not_found");
    daemon.post("/doctor", &json!({})).refused(405, "invalid_request");
}
