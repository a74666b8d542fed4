//! Commands in guests over REST. The simulated agent is a stand-in: it runs no program.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use api::client::{Client, Endpoint};
use model::Code;
use serde_json::{Value, json};
use sim::SimAgent;
use support::Daemon;

fn with_agent() -> (Daemon, SimAgent) {
    let daemon = Daemon::start();
    daemon.import("vm");
    let body = json!({ "name": "dev", "image": "vm", "size": "1GB", "vcpus": 1 });
    let created = daemon.post("/instances", &body);
    assert_eq!(created.status, 201);
    let agent = SimAgent::default();
    let id = created.json()["id"].as_str().unwrap().parse().unwrap();
    daemon.launcher.set_agent(id, Some(agent.clone()));
    (daemon, agent)
}

#[test]
fn a_command_answers_its_output_and_status() {
    let (daemon, _) = with_agent();
    let exec = |body: &Value| daemon.post("/instances/dev/exec", body);
    let answer = exec(&json!({ "command": ["warn"] }));
    assert_eq!(answer.status, 200);
    let expected = json!({
        "pid": 1, "exit_code": 3, "timed_out": false, "stdout": "bm8=", "stderr": "d2FybmVk",
        "stdout_truncated": false, "stderr_truncated": true,
    });
    assert_eq!(answer.json(), expected);
    let endless = exec(&json!({ "command": ["yes"], "timeout": "50ms" })).json();
    assert_eq!((&endless["timed_out"], &endless["exit_code"]), (&json!(true), &Value::Null));
    let echoed =
        exec(&json!({ "command": ["cat"], "input": "AP8=", "env": { "LANG": "C" } })).json();
    assert_eq!(echoed["stdout"], "AP8=");
    for (wrong, status, code) in [
        (json!({ "command": [] }), 400, "invalid_request"),
        (json!({ "command": ["true"], "cwd": "/" }), 400, "invalid_request"),
        (json!({ "command": ["true"], "input": "?" }), 400, "invalid_request"),
        (json!({ "command": ["true"], "timeout": "25h" }), 400, "invalid_request"),
        (json!({ "command": ["nvidia-smi"] }), 409, "agent_refused"),
    ] {
        let answer = exec(&wrong);
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (status, Some(code)),
            "{wrong}"
        );
    }
    // hypeman's call, a WebSocket: qemu-guest-agent has no streams.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(Endpoint::Unix(daemon.socket()), None);
    let refused = runtime.block_on(client.socket("/instances/dev/exec")).unwrap_err();
    assert_eq!(refused.code, Code::InvalidState, "{refused}");
}

#[test]
fn a_password_is_set_by_its_hash_only() {
    let (daemon, agent) = with_agent();
    let hash = format!("$6$salt${}", "x".repeat(86));
    let set = |hash: &str| {
        daemon.post("/instances/dev/password", &json!({ "user": "root", "password_hash": hash }))
    };
    assert_eq!(set(&hash).status, 204);
    assert_eq!(agent.passwords().len(), 1);
    let refused = set("secret");
    assert_eq!(refused.status, 400);
    assert!(!refused.json().to_string().contains("secret"), "the password is in the answer");
}
