//! Attacks on a running Handover, one after another on one emulated host: locked and full journals, wrong clocks, slow
//! clients, dead workers and daemons, unplugged devices, other tools. After each, everything can be released, and the host
//! is as it was. `make break` runs them for longer than the gate does.

use serde_json::{Value, json};

use crate::claims::{GPU, NVME, snapshot};
use crate::support::{Host, IGB, thoroughly, wanted};

const STATE: &str = "/var/lib/handover";

/// A GPU that nothing else of the attacks uses.
const OTHER_GPU: &str = "0000:24:00.0";

/// Makes an attack, and ends it.
type Attack = fn(&Host);

/// All attacks.
const ATTACKS: [(&str, Attack); 10] = [
    ("another process locks the journal", locked_journal),
    ("the disk is full", full_disk),
    ("uploads that do not fit", uploads),
    ("imports of sparse giants", sparse_giants),
    ("the clock jumps", clock_jumps),
    ("clients that say nothing", silent_clients),
    ("workers are killed", killed_workers),
    ("the daemon is killed", killed_daemon),
    ("a device is unplugged", unplugged),
    ("other tools change the same devices", other_tools),
];

#[test]
fn it_withstands_attacks() {
    if !wanted() {
        return;
    }
    // Not shared: its clock is changed.
    let host = Host::boot("server");
    // Small enough to be filled; tmpfs has no reserve for root.
    host.sh(&format!("mkdir -p {STATE}; mount -t tmpfs -o size=160m,mode=700 tmpfs {STATE}"));
    host.serve("");
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&json!({ "count": 4 }))).expect(204);
    works(&host, "at first");
    let before = snapshot(&host);
    for (name, attack) in ATTACKS {
        let began = std::time::Instant::now();
        attack(&host);
        released(&host, name);
        assert_eq!(snapshot(&host), before, "{name}: {}", host.log());
        let open = host.sh(&format!(
            "sqlite3 {STATE}/state.db \"SELECT COUNT(*) FROM operations WHERE state = 'open'\""
        ));
        assert_eq!(open.trim(), "0", "{name}: operations are open: {}", host.log());
        works(&host, name);
        println!("ATTACK {name}: withstood in {:.0?}", began.elapsed());
    }
}

/// How long an attack that only takes time lasts, in seconds.
fn seconds() -> u32 {
    if thoroughly() { 30 } else { 4 }
}

fn claim(host: &Host, owner: &str, want: &str) -> crate::support::Answer {
    host.ask("POST", "/claims", Some(&json!({ "owner": owner, "wants": [want] })))
}

/// A device can be claimed and released.
fn works(host: &Host, after: &str) {
    for want in [NVME, OTHER_GPU] {
        let made = claim(host, "job/works", want);
        assert_eq!(made.status, 201, "after {after}: {made:?}\n{}", host.log());
        assert_eq!(host.ask("DELETE", "/claims/job%2Fworks", None).status, 204, "after {after}");
    }
}

/// Releases what is left, once what the attack did is over.
fn released(host: &Host, after: &str) {
    host.wait(&format!("the release after {after}"), 120, || {
        host.ask("POST", "/reconcile", None);
        // Refused for a device that is well.
        for address in [IGB, NVME, GPU] {
            host.ask("POST", &format!("/devices/{address}/clear"), None);
        }
        let claims = host.get("/claims");
        let claims: Vec<&Value> = claims.as_array().unwrap().iter().collect();
        for claim in &claims {
            let id = claim["id"].as_str().unwrap();
            host.ask("DELETE", &format!("/claims/{id}"), None);
        }
        claims.is_empty()
    });
}

/// Starts clients that claim and release devices until [`rest`].
fn busy(host: &Host) {
    let wants = [("vf", format!("vf@{IGB}")), ("drive", NVME.to_owned()), ("gpu", GPU.to_owned())];
    host.sh("rm -f /tmp/rest /tmp/turns");
    for (owner, want) in wants {
        host.sh(&format!(
            "cat >/tmp/busy-{owner} <<'END'
             until [ -e /tmp/rest ]; do
                 curl -s -m 100 -o /dev/null localhost:8080/claims -d '{{\"owner\":\"job/{owner}\",\"wants\":[\"{want}\"]}}' || sleep 0.2
                 curl -s -m 100 -o /dev/null -X DELETE localhost:8080/claims/job%2F{owner} && echo {owner} >>/tmp/turns || sleep 0.2
             done
END
             setsid bash /tmp/busy-{owner} >/dev/null 2>&1 </dev/null &"
        ));
    }
}

/// Waits until the clients have ended.
fn rest(host: &Host) {
    host.sh("touch /tmp/rest");
    host.wait("the clients' end", 240, || {
        host.sh("pgrep -f '/tmp/[b]usy-' || true").trim().is_empty()
    });
    let turns = host.sh("wc -l </tmp/turns");
    println!("{} requests of the busy clients were answered", turns.trim());
}

fn locked_journal(host: &Host) {
    busy(host);
    host.sh(&format!(
        "(echo 'BEGIN IMMEDIATE;'; sleep {}) | sqlite3 {STATE}/state.db; true",
        seconds() / 2 + 4
    ));
    rest(host);
}

fn full_disk(host: &Host) {
    busy(host);
    host.sh(&format!(
        "sleep 1; cat /dev/zero >{STATE}/full 2>/dev/null; sleep {}; rm {STATE}/full",
        seconds()
    ));
    rest(host);
}

/// Four at once, each of which would fit alone.
fn uploads(host: &Host) {
    host.sh("head -c 60M /dev/urandom >/tmp/big");
    let said = host.sh(
        "for n in 1 2 3 4; do
             curl -s -m 120 -o /dev/null -w '%{http_code}\\n' localhost:8080/images -F name=big$n -F format=raw -F disk=@/tmp/big &
         done; wait",
    );
    println!("four uploads: {}", said.split_whitespace().collect::<Vec<_>>().join(" "));
    assert!(said.lines().any(|status| status != "202"), "all of them were taken: {said}");
    // The journal has its room meanwhile.
    works(host, "uploads");
    host.sh(
        "rm /tmp/big; for n in 1 2 3 4; do curl -s -o /dev/null -X DELETE localhost:8080/images/big$n; done",
    );
    host.wait("the images' end", 60, || host.get("/images") == json!([]));
}

fn sparse_giants(host: &Host) {
    host.sh("mkdir -p /opt/lab/guest; truncate -s 8T /opt/lab/guest/giant");
    for n in 0..5 {
        let body =
            json!({ "name": format!("giant{n}"), "disk": "/opt/lab/guest/giant", "format": "raw" });
        let answer = host.ask("POST", "/images", Some(&body));
        println!("a giant: {} {}", answer.status, answer.body["code"]);
    }
    works(host, "giants");
    for n in 0..5 {
        host.ask("DELETE", &format!("/images/giant{n}"), None);
    }
    host.wait("the images' end", 60, || host.get("/images") == json!([]));
    host.sh("rm /opt/lab/guest/giant");
}

/// A lease of 10 s ends in time although the clock is wrong.
fn clock_jumps(host: &Host) {
    for jump in ["2 days ago", "1 day"] {
        let body = json!({ "owner": "job/lease", "wants": [NVME], "lease_seconds": 10 });
        host.ask("POST", "/claims", Some(&body)).expect(201);
        host.sh(&format!("date -s \"$(date -d '{jump}')\""));
        assert_eq!(host.get("/claims").as_array().unwrap().len(), 1, "its lease ended at once");
        host.wait("the lease's end", 60, || host.get("/claims") == json!([]));
    }
    host.sh("date -s \"$(date -d '1 day')\"");
}

/// More than Handover's connections, held open.
fn silent_clients(host: &Host) {
    host.sh(&format!(
        "setsid bash -c 'for n in $(seq 300); do exec {{fd}}<>/dev/tcp/127.0.0.1/8080; printf \"GET / HTTP/1.1\\r\\n\" >&$fd; done; touch /tmp/silent; sleep {}' >/dev/null 2>&1 </dev/null &
         for try in $(seq 300); do [ -e /tmp/silent ] && exit 0; sleep 0.1; done; exit 1",
        seconds()
    ));
    works(host, "silent clients");
    host.sh("rm /tmp/silent");
}

fn killed_workers(host: &Host) {
    busy(host);
    host.sh(&format!(
        "for n in $(seq {}); do sleep 0.23; pkill -9 -f '[h]andover worker'; done; true",
        seconds() * 4
    ));
    rest(host);
}

fn killed_daemon(host: &Host) {
    busy(host);
    for _ in 0..if thoroughly() { 12 } else { 3 } {
        host.sh("sleep 0.7");
        host.kill_daemon();
        host.serve("");
    }
    rest(host);
    lost_request(host);
}

/// A command whose daemon dies does not repeat the request in an engine of its own: the daemon may have it already.
fn lost_request(host: &Host) {
    let rc = host.sh(&format!(
        "kill -STOP $(</tmp/handover.pid)
         (handover claim {OTHER_GPU} --owner late/1 >/tmp/late 2>&1; echo $? >/tmp/late.rc) &
         sleep 2; kill -9 $(</tmp/handover.pid); wait; cat /tmp/late.rc"
    ));
    let text = host.sh("cat /tmp/late");
    assert_eq!(rc.trim(), "13", "{text}");
    assert!(
        text.contains("the connection") && text.contains("may have been carried out"),
        "{text}"
    );
    host.kill_daemon();
    host.serve("");
}

fn unplugged(host: &Host) {
    busy(host);
    for _ in 0..if thoroughly() { 8 } else { 2 } {
        host.sh(&format!(
            "sleep 0.5; echo 1 >/sys/bus/pci/devices/{NVME}/remove; sleep 0.5; echo 1 >/sys/bus/pci/rescan"
        ));
    }
    rest(host);
    host.sh(&format!(
        "for try in $(seq 100); do [ -e /sys/bus/pci/devices/{NVME}/driver ] && exit 0; sleep 0.1; done; true"
    ));
}

/// A script from a passthrough guide, on the devices that the clients claim, and driverctl's way of giving them back.
fn other_tools(host: &Host) {
    busy(host);
    host.sh(&format!(
        "for n in $(seq {}); do
             for device in {NVME} {GPU}; do
                 cd /sys/bus/pci/devices/$device
                 {{ echo vfio-pci >driver_override; echo $device >driver/unbind; echo $device >/sys/bus/pci/drivers_probe; }} 2>/dev/null
                 sleep 0.1
                 {{ echo >driver_override; echo $device >driver/unbind; echo $device >/sys/bus/pci/drivers_probe; }} 2>/dev/null
             done
         done; true",
        seconds() * 2
    ));
    rest(host);
    // What the other tool left is its own: it cleans up after itself. vfio-pci, to which it bound the devices, lets them
    // sleep (`auto`), and that is what a claim restores if it found it.
    released(host, "other tools");
    host.sh(&format!(
        "for device in {NVME} {GPU}; do
             cd /sys/bus/pci/devices/$device; echo >driver_override; echo on >power/control
             native=$([ $device = {NVME} ] && echo nvme || echo labgpu)
             [ \"$(basename $(readlink driver))\" = $native ] && continue
             echo $device >driver/unbind; echo $device >/sys/bus/pci/drivers_probe
         done 2>/dev/null; true"
    ));
}
