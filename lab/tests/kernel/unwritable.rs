//! The journal cannot be written, on a real kernel, from a boundary on: another process has the file locked, or its
//! file system is full. The claim is rolled back on the host, the answer says so, and the record follows when it can be
//! written.
//!
//! The daemon itself lists the boundaries (`HANDOVER_TRACE_BOUNDARIES`), and pauses at the one with a given number
//! (`HANDOVER_PAUSE_AT`) until it is continued.

use serde_json::{Value, json};

use crate::support::{Answer, Host, NIC, boundaries, thoroughly};

const STATE: &str = "/var/lib/handover";

/// The obstacle for the journal.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    Locked,
    Full,
}

impl Obstacle {
    /// Creates it.
    fn set(self, host: &Host) {
        host.sh(&match self {
            Self::Locked => format!(
                "(echo \"BEGIN IMMEDIATE; SELECT 'locked';\"; exec sleep 1000) | sqlite3 {STATE}/state.db >/tmp/locked 2>&1 &
                 for try in $(seq 200); do grep -q ^locked /tmp/locked && exit 0; sleep 0.05; done; cat /tmp/locked; exit 1"
            ),
            Self::Full => format!("cat /dev/zero >{STATE}/fill 2>/dev/null; ! echo x >{STATE}/more 2>/dev/null"),
        });
    }

    /// Removes it.
    fn clear(self, host: &Host) {
        host.sh(&match self {
            Self::Locked => "pkill -x sleep; pkill -x sqlite3; while pgrep -x sqlite3; do sleep 0.02; done; true".to_owned(),
            Self::Full => format!("rm -f {STATE}/fill {STATE}/more"),
        });
    }
}

fn request() -> Value {
    // One part, and so one thread: a daemon that is paused while another thread writes would hold the lock itself.
    json!({ "owner": "job/cut", "wants": [NIC] })
}

/// The boundaries of a claim.
fn traced(host: &Host) -> usize {
    host.sh("rm -f /tmp/boundaries");
    host.serve("HANDOVER_TRACE_BOUNDARIES=/tmp/boundaries");
    host.ask("POST", "/claims", Some(&request())).expect(201);
    let many = host.sh("wc -l </tmp/boundaries").trim().parse().unwrap();
    host.ask("DELETE", "/claims/job%2Fcut", None);
    host.kill_daemon();
    many
}

/// Claims with a daemon that pauses at a boundary, creates the obstacle, and continues the daemon.
fn claim_into(host: &Host, boundary: usize, obstacle: Obstacle) -> Answer {
    host.serve(&format!("HANDOVER_JOURNAL_TIMEOUT=1 HANDOVER_PAUSE_AT={boundary}"));
    host.sh(&format!(
        "rm -f /tmp/answer; setsid curl -s -m 120 -w '\\n%{{http_code}}' -o - -X POST -d '{}' localhost:8080/claims >/tmp/answer 2>&1 </dev/null &
         for try in $(seq 400); do grep -q '^State:.T' /proc/$(</tmp/handover.pid)/status && exit 0; sleep 0.05; done
         cat /tmp/answer; exit 1",
        request()
    ));
    obstacle.set(host);
    host.sh("kill -CONT $(</tmp/handover.pid); while pgrep -x curl; do sleep 0.05; done; true");
    Answer::read(&host.sh("cat /tmp/answer"))
}

/// At boundaries of a claim, with each obstacle: the claim is gone or complete.
pub fn a_claim_is_rolled_back_or_whole(host: &Host) {
    host.kill_daemon();
    host.sh(&format!("mkdir -p {STATE}; mount -t tmpfs -o size=40m,mode=700 tmpfs {STATE}"));
    host.serve("");
    let before = host.snapshot();
    host.kill_daemon();
    let many = traced(host);
    assert!(many > 12, "are boundaries missing? {many}");
    let (mut rolled_back, mut completed) = (0, 0);
    for obstacle in [Obstacle::Locked, Obstacle::Full] {
        for (turn, boundary) in boundaries(1..=many - 1).into_iter().enumerate() {
            // In the gate they take turns.
            if !thoroughly() && (turn % 2 == 0) != matches!(obstacle, Obstacle::Locked) {
                continue;
            }
            let why = format!("{obstacle:?} from boundary {boundary} of {many} on");
            let answer = claim_into(host, boundary, obstacle);
            if answer.status == 201 {
                // The log has its space beforehand.
                assert!(matches!(obstacle, Obstacle::Full), "{why}: {answer:?}");
                completed += 1;
            } else {
                answer.refused(503, "state_unusable");
                assert_eq!(host.snapshot(), before, "{why}: {answer:?}\n{}", host.log());
                let message = answer.body["message"].as_str().unwrap();
                assert!(message.contains("rolled back"), "{why}: {message}");
                host.ask("POST", "/reconcile", None).refused(503, "state_unusable");
                rolled_back += 1;
            }
            obstacle.clear(host);
            host.ask("POST", "/reconcile", None).expect(200);
            if answer.status == 201 {
                host.ask("DELETE", "/claims/job%2Fcut", None);
            }
            assert_eq!(host.get("/claims"), json!([]), "{why}: {answer:?}");
            assert_eq!(host.snapshot(), before, "{why}: {}", host.log());
            let open = format!(
                "sqlite3 {STATE}/state.db \"SELECT COUNT(*) FROM operations WHERE state = 'open'\""
            );
            assert_eq!(host.sh(&open).trim(), "0", "{why}");
            host.kill_daemon();
        }
    }
    a_full_disk_keeps_no_device(host);
    println!("rolled back {rolled_back} times, completed {completed} times");
    assert!(rolled_back > 1 && completed > 1, "only {rolled_back} and {completed}");
    host.sh(&format!("umount {STATE}"));
}

/// With nothing left on the disk, a claim is refused, and one that exists is released.
fn a_full_disk_keeps_no_device(host: &Host) {
    host.serve("");
    host.ask("POST", "/claims", Some(&request())).expect(201);
    Obstacle::Full.set(host);
    let other = json!({ "owner": "job/other", "wants": ["nvme"] });
    host.ask("POST", "/claims", Some(&other)).refused(503, "state_unusable");
    host.ask("DELETE", "/claims/job%2Fcut", None).expect(204);
    assert_eq!(host.get("/claims"), json!([]));
    Obstacle::Full.clear(host);
    host.kill_daemon();
}
