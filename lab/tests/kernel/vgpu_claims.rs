//! vGPUs of NVIDIA's vendor-specific VFIO, claimed by profile: with the lab's module `labvf` the igb's virtual
//! functions behave like them, with lists that shrink, EBUSY and a slow release.

use serde_json::{Value, json};

use crate::support::{Answer, Host, IGB, boundaries, wanted};

struct Vgpus(Host);

impl Vgpus {
    /// Four virtual functions with the vendor's driver, and a daemon.
    fn new() -> Self {
        let host = Host::shared("server");
        host.vgpu_functions(IGB);
        host.serve("");
        Self(host)
    }

    fn claim(&self, owner: &str, profile: &str) -> Answer {
        let want = format!("profile={profile}@{IGB}");
        self.0.ask("POST", "/claims", Some(&json!({ "owner": owner, "wants": [want] })))
    }

    fn release(&self, owner: &str) -> Answer {
        self.0.ask("DELETE", &format!("/claims/{}", owner.replace('/', "%2F")), None)
    }

    /// For each function: its driver, its type, and the ids of the available types.
    fn now(&self) -> String {
        self.0.sh(&format!(
            "for f in /sys/bus/pci/devices/{IGB}/virtfn*; do
                 echo $(basename $f) $(basename $(readlink $f/driver)) $(cat $f/nvidia/current_vgpu_type) $(awk -F: 'NR > 1 {{ printf \"%d \", $1 }}' $f/nvidia/creatable_vgpu_types)
             done"
        ))
    }

    fn parameter(&self, name: &str, value: &str) {
        self.0.sh(&format!("echo {value} >/sys/module/labvf/parameters/{name}"));
    }
}

fn head(claim: &Value) -> &str {
    claim["parts"][0]["head"].as_str().unwrap()
}

#[test]
fn a_profile_is_claimed_opened_and_freed() {
    if !wanted() {
        return;
    }
    let vgpus = Vgpus::new();
    let free = "virtfn0 labvf 0 1155 1156 1157 1158\nvirtfn1 labvf 0 1155 1156 1157 1158\n\
                virtfn2 labvf 0 1155 1156 1157 1158\nvirtfn3 labvf 0 1155 1156 1157 1158\n";
    assert_eq!(vgpus.now(), free);
    let before = vgpus.0.snapshot();

    let one = vgpus.claim("job/one", "L40S-2Q").expect(201);
    assert_eq!(one["state"], "prepared", "{one:#}");
    vgpus.claim("job/one", "L40S-2Q").expect(200);
    let shrunk =
        "virtfn0 labvf 1156\nvirtfn1 labvf 0 1156\nvirtfn2 labvf 0 1156\nvirtfn3 labvf 0 1156\n";
    assert_eq!(vgpus.now(), shrunk, "it stays with its driver, and others have less to offer");

    // Another size does not fit; the refusal lists what does.
    let other = vgpus.claim("job/other", "L40S-4Q");
    other.refused(409, "insufficient_resources");
    let text = other.body.to_string();
    assert!(text.contains("L40S-2Q"), "{text}");
    assert_eq!(vgpus.now(), shrunk);

    // A second one of the same size, a third of another if the card supports it: with the same request.
    let two = vgpus.claim("job/two", "NVIDIA L40S-2Q").expect(201);
    assert_ne!(head(&one), head(&two));
    assert_eq!(vgpus.release("job/two").status, 204, "{}", vgpus.0.log());
    vgpus.parameter("heterogeneous", "1");
    vgpus.claim("job/two", "L40S-4Q").expect(201);
    vgpus.claim("job/three", "L40S-8Q").refused(409, "insufficient_resources");
    assert_eq!(vgpus.release("job/two").status, 204, "{}", vgpus.0.log());
    vgpus.parameter("heterogeneous", "0");

    // An administrator's QEMU opens it with the data from the answer.
    let device = one["attach"]["qemu"][0].as_str().unwrap();
    vgpus.0.sh(&format!(
        "setsid qemu-system-x86_64 -M q35 -m 64 -display none -nodefaults -S -qmp unix:/tmp/qmp,server=on,wait=off -device '{device}' >/tmp/q.log 2>&1 </dev/null &
         for try in $(seq 300); do ls -l /proc/$(pgrep -x qemu-system-x86)/fd 2>/dev/null | grep -q vfio && exit 0; sleep 0.1; done; cat /tmp/q.log; exit 1"
    ));
    let used = vgpus.release("job/one");
    used.refused(409, "in_use");
    assert!(used.body["message"].as_str().unwrap().contains("qemu-system-x86"), "{used:?}");
    vgpus.0.sh("pkill -9 -x qemu-system-x86; while pgrep -x qemu-system-x86 >/dev/null; do sleep 0.05; done");

    // The driver needs time to free it after the machine's end: EBUSY is not an error.
    vgpus.parameter("release_delay_ms", "2500");
    assert_eq!(vgpus.release("job/one").status, 204, "{}", vgpus.0.log());
    vgpus.parameter("release_delay_ms", "0");
    assert_eq!(vgpus.now(), free);
    assert_eq!(vgpus.0.snapshot(), before);
}

#[test]
fn killed_at_every_boundary_a_vgpu_is_freed() {
    if !wanted() {
        return;
    }
    let vgpus = Vgpus::new();
    let host = &vgpus.0;
    let before = vgpus.now() + &host.snapshot();
    host.kill_daemon();
    let traced = || host.sh("cat /tmp/boundaries").lines().count();
    host.serve("HANDOVER_TRACE_BOUNDARIES=/tmp/boundaries");
    vgpus.claim("job/one", "L40S-1Q").expect(201);
    let claiming = traced();
    assert_eq!(vgpus.release("job/one").status, 204);
    let all = traced();
    host.kill_daemon();
    println!("{claiming} boundaries in a claim, {} in its release", all - claiming);
    for boundary in boundaries(1..=all) {
        host.serve(&format!("HANDOVER_KILL_AT={boundary}"));
        let made = vgpus.claim("job/one", "L40S-1Q");
        if boundary > claiming {
            made.expect(201);
            assert_eq!(vgpus.release("job/one").status, 0, "it lived on after {boundary}");
        } else {
            assert_eq!(made.status, 0, "it lived on after {boundary}");
        }
        host.serve("");
        // A claim that was committed just before the kill is complete.
        if host.get("/claims") != json!([]) {
            assert_eq!(boundary, claiming, "{}", host.log());
            assert_eq!(vgpus.release("job/one").status, 204);
        }
        assert_eq!(vgpus.now() + &host.snapshot(), before, "boundary {boundary}: {}", host.log());
        host.kill_daemon();
    }
}
