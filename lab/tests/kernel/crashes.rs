//! A SIGKILL at boundaries of the journal, on a real kernel: the next start completes or undoes, and nothing leaks. At one of
//! eight in the gate, at each with `make lab-long`; the simulation kills at all of them.
//!
//! The program enumerates the boundaries: the daemon writes each one that it reaches into a file
//! (`HANDOVER_TRACE_BOUNDARIES`), and kills itself at the one whose number it is given (`HANDOVER_KILL_AT`).

use crate::support::{GPU, Host, boundaries as sample, wanted};
use serde_json::Value;

fn boundaries(host: &Host) -> Vec<String> {
    host.sh("cat /tmp/boundaries || true").lines().map(str::to_owned).collect()
}

fn create(host: &Host) -> u16 {
    host.ask("POST", "/instances", Some(&Host::machine("victim", "guest", &["gpu0"]))).status
}

/// The boundaries of a create and of a delete, as the daemon traces them.
fn enumerate(host: &Host) -> (Vec<String>, Vec<String>) {
    host.sh("rm -f /tmp/boundaries");
    host.serve("HANDOVER_TRACE_BOUNDARIES=/tmp/boundaries");
    assert_eq!(create(host), 201, "{}", host.log());
    let created = boundaries(host);
    host.ask("DELETE", "/instances/victim", None).expect(204);
    let deleted = boundaries(host).split_off(created.len());
    host.kill_daemon();
    (created, deleted)
}

fn instances(host: &Host) -> Vec<Value> {
    host.get("/instances").as_array().unwrap().clone()
}

/// A host with a registered GPU and a guest's image, without a daemon; and a snapshot of it.
fn prepared() -> (Host, String) {
    let host = Host::shared("workstation");
    host.serve("");
    host.register("gpu0", GPU);
    host.import_guest("guest", "handover.stay=1");
    let before = host.snapshot();
    host.kill_daemon();
    (host, before)
}

#[test]
fn killed_at_boundaries_of_a_create_nothing_leaks() {
    if !wanted() {
        return;
    }
    let (host, before) = prepared();
    forget_modules(&host);
    let (creating, _) = enumerate(&host);
    println!("{} boundaries in a create", creating.len());
    let launches = creating.iter().filter(|line| line.contains("\"launch\"")).count();
    assert_eq!(launches, 3, "a launch is intended, performed and recorded: {creating:#?}");
    for number in sample(1..=creating.len()) {
        let boundary = &creating[number - 1];
        forget_modules(&host);
        host.serve(&format!("HANDOVER_KILL_AT={number}"));
        assert_eq!(create(&host), 0, "the daemon lived on after {boundary}");
        host.serve("");
        // Killed before the create was acknowledged: it is undone or complete.
        for instance in instances(&host) {
            assert_eq!(instance["state"], "Running", "{boundary}: {instance:#}");
            host.ask("DELETE", "/instances/victim", None).expect(204);
        }
        assert_eq!(host.snapshot(), before, "{boundary}: {}", host.log());
        host.kill_daemon();
    }
}

#[test]
fn killed_at_boundaries_of_a_delete_and_with_an_unwritable_journal_nothing_leaks() {
    if !wanted() {
        return;
    }
    let (host, before) = prepared();
    let (_, deleting) = enumerate(&host);
    println!("{} boundaries in a delete", deleting.len());
    assert!(deleting.len() > 20, "are boundaries missing? {deleting:#?}");
    for number in sample(1..=deleting.len()) {
        let boundary = &deleting[number - 1];
        // The daemon that will be killed adopts the running machine, which has no boundaries.
        host.serve("");
        assert_eq!(create(&host), 201, "before {boundary}: {}", host.log());
        host.kill_daemon();
        host.serve(&format!("HANDOVER_KILL_AT={number}"));
        assert_eq!(host.ask("DELETE", "/instances/victim", None).status, 0, "{boundary}");
        host.serve("");
        assert_eq!(instances(&host).len(), 0, "{boundary}: {}", host.log());
        assert_eq!(host.snapshot(), before, "{boundary}: {}", host.log());
        host.kill_daemon();
    }
    // On the same host, for a boot takes as long as many of these.
    crate::unwritable::a_claim_is_rolled_back_or_whole(&host);
}

/// Unloads the vfio drivers, so that the step that loads them is not skipped.
fn forget_modules(host: &Host) {
    host.sh("modprobe -r vfio-pci vfio_iommu_type1 || lsmod");
}
