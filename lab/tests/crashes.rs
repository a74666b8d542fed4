//! A SIGKILL at every boundary of the journal, on a real kernel: the next start finishes or undoes, and nothing leaks.
//!
//! The boundaries are enumerated by the program: the daemon writes each one that it reaches into a file
//! (`HANDOVER_TRACE_BOUNDARIES`), and kills itself at the one whose number it is given (`HANDOVER_KILL_AT`).
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use serde_json::Value;
use support::{GPU, Host, wanted};

fn boundaries(host: &Host) -> Vec<String> {
    host.sh("cat /tmp/boundaries || true").lines().map(str::to_owned).collect()
}

fn create(host: &Host) -> u16 {
    host.ask("POST", "/instances", Some(&Host::machine("victim", "guest", &["gpu"]))).status
}

/// How many boundaries a create and a delete have.
fn enumerate(host: &Host) -> (usize, usize) {
    host.sh("rm -f /tmp/boundaries");
    host.serve("HANDOVER_TRACE_BOUNDARIES=/tmp/boundaries");
    assert_eq!(create(host), 201, "{}", host.log());
    let created = boundaries(host).len();
    host.ask("DELETE", "/instances/victim", None).expect(204);
    let deleted = boundaries(host).len() - created;
    host.kill_daemon();
    (created, deleted)
}

fn instances(host: &Host) -> Vec<Value> {
    host.get("/instances").as_array().unwrap().clone()
}

#[test]
fn killed_at_every_boundary_nothing_leaks() {
    if !wanted() {
        return;
    }
    let host = Host::boot("workstation");
    host.serve("");
    host.register("gpu", GPU);
    host.import_guest("guest", "handover.stay=1");
    let before = host.snapshot();
    host.kill_daemon();
    let (creating, deleting) = enumerate(&host);
    println!("{creating} boundaries in a create, {deleting} in a delete");
    assert!(creating > 20 && deleting > 10, "{creating} and {deleting}: are boundaries missing?");

    for boundary in 1..=creating {
        host.serve(&format!("HANDOVER_KILL_AT={boundary}"));
        assert_eq!(create(&host), 0, "the daemon lived on after boundary {boundary}");
        host.serve("");
        // Killed before the create was acknowledged: it is undone, or it is whole.
        for instance in instances(&host) {
            assert_eq!(instance["state"], "Running", "boundary {boundary}: {instance:#}");
            host.ask("DELETE", "/instances/victim", None).expect(204);
        }
        assert_eq!(host.snapshot(), before, "create, boundary {boundary}: {}", host.log());
        host.kill_daemon();
    }
    for boundary in 1..=deleting {
        host.serve("");
        assert_eq!(create(&host), 201, "after boundary {boundary}: {}", host.log());
        host.kill_daemon();
        host.serve(&format!("HANDOVER_KILL_AT={boundary}"));
        host.ask("DELETE", "/instances/victim", None);
        host.serve("");
        assert_eq!(instances(&host).len(), 0, "delete, boundary {boundary}: {}", host.log());
        assert_eq!(host.snapshot(), before, "delete, boundary {boundary}: {}", host.log());
        host.kill_daemon();
    }
}
