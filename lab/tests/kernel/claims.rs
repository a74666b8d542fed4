//! Claims on a real kernel: every kind of device and part, used by a machine of another tool, killed at every boundary,
//! and claimed by many clients at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Host, boundaries, thoroughly, wanted};

/// The functions of the `server` topology.
const IGB: &str = "0000:01:00.0";
/// The NVMe drive.
pub const NVME: &str = "0000:02:00.0";
/// A GPU.
pub const GPU: &str = "0000:23:00.0";
const MDEV_GPU: &str = "0000:44:00.0";

/// Starts the daemon, and does not wait until it answers.
const SERVE_BEHIND: &str = "setsid handover serve --listen 127.0.0.1:8080 --no-auth >>/tmp/handover.log 2>&1 </dev/null & echo $! >/tmp/handover.pid";

/// Everything that a claim changes: the steps of a hand-over, VFs and their settings, mediated devices.
pub fn snapshot(host: &Host) -> String {
    let parts = host.sh(
        "ls /sys/bus/mdev/devices 2>/dev/null; cat /sys/bus/pci/devices/*/sriov_numvfs /sys/bus/pci/devices/*/sriov_drivers_autoprobe
         ip link show | grep -o ' vf [0-9]* .*' || true",
    );
    host.snapshot() + &parts
}

fn claim(host: &Host, owner: &str, wants: &[&str]) -> crate::support::Answer {
    host.ask("POST", "/claims", Some(&json!({ "owner": owner, "wants": wants })))
}

fn release(host: &Host, owner: &str) -> u16 {
    host.ask("DELETE", &format!("/claims/{}", owner.replace('/', "%2F")), None).status
}

/// The claims with CDI files for container tools.
fn known_to_containers(host: &Host) -> Vec<String> {
    let files = host.sh("ls /var/run/cdi 2>/dev/null || true");
    let id = |file: &str| {
        let id =
            file.trim().strip_prefix("handover.dev-claim-").and_then(|id| id.strip_suffix(".json"));
        id.unwrap_or(file).to_owned()
    };
    files.lines().map(id).collect()
}

/// Whether a claim has a CDI file, with existing nodes.
fn expect_told(host: &Host, claim: &Value) {
    let id = claim["id"].as_str().unwrap();
    assert!(known_to_containers(host).contains(&id.to_owned()), "{id}: {}", host.log());
    let nodes = format!("/var/run/cdi/handover.dev-claim-{id}.json");
    let nodes = host.sh(&format!("grep -o '\"/dev/[^\"]*' {nodes} | tr -d '\"' | xargs ls -d"));
    assert!(nodes.lines().count() >= 2, "{nodes}");
}

fn server() -> Host {
    let host = Host::shared("server");
    host.serve("");
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&json!({ "count": 4 }))).expect(204);
    host
}

#[test]
fn each_kind_of_device_is_claimed_used_by_qemu_and_released() {
    if !wanted() {
        return;
    }
    let host = server();
    let before = snapshot(&host);
    let vf = format!("2xvf@{IGB},mac=52:54:00:00:77:01,vlan=7,trust=on");
    let one_vf = vf.replace("2x", "");
    let mdev = format!("profile=labgpu-475@{MDEV_GPU}");
    claim(&host, "job/two", &[&vf]).refused(400, "invalid_request");
    for (owner, want) in
        [("job/vf", one_vf.as_str()), ("job/mdev", &mdev), ("job/nvme", NVME), ("job/gpu", GPU)]
    {
        let made = claim(&host, owner, &[want]).expect(201);
        assert_eq!(made["state"], "prepared", "{made:#}");
        claim(&host, owner, &[want]).expect(200);
        expect_told(&host, &made);
        let device = made["attach"]["qemu"][0].as_str().unwrap();
        let group = made["attach"]["groups"][0].as_str().unwrap().to_owned();
        // An administrator's own QEMU, with only the data from the answer.
        let seen = host.sh(&format!(
            "printf '%s\\n' '{{\"execute\":\"qmp_capabilities\"}}' '{{\"execute\":\"query-pci\"}}' '{{\"execute\":\"quit\"}}' |
             timeout 60 qemu-system-x86_64 -M q35 -m 64 -display none -nodefaults -S -qmp stdio -device '{device}'"
        ));
        assert!(seen.contains("handover0f0"), "{want}: {seen}");
        assert!(
            host.sh("ls /dev/vfio").contains(group.trim_start_matches("/dev/vfio/")),
            "{group}"
        );
    }
    let settings = host.sh("ip link show | grep -o ' vf 0 .*'");
    assert!(
        ["52:54:00:00:77:01", "vlan 7", "trust on"].iter().all(|word| settings.contains(word)),
        "{settings}"
    );
    // The whole device, its VF count, and a claimed device are refused.
    claim(&host, "job/other", &[IGB]).refused(409, "in_use");
    claim(&host, "job/other", &[MDEV_GPU]).refused(409, "in_use");
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&json!({ "count": 0 }))).refused(409, "in_use");
    for owner in ["job/vf", "job/mdev", "job/nvme", "job/gpu"] {
        assert_eq!(release(&host, owner), 204, "{owner}: {}", host.log());
    }
    assert_eq!(known_to_containers(&host), Vec::<String>::new());
    assert_eq!(snapshot(&host), before);
}

/// The definition is compared with mdevctl's own.
#[test]
fn a_defined_mdev_has_an_mdevctl_definition_as_long_as_its_claim() {
    if !wanted() {
        return;
    }
    let host = Host::shared("server");
    host.serve("");
    let before = snapshot(&host);
    let wants = [format!("profile=labgpu-475@{MDEV_GPU}")];
    let body = json!({ "owner": "job/one", "wants": wants, "define": true });
    let defined = |host: &Host| host.sh("mdevctl list --defined");
    assert_eq!(defined(&host).trim(), "");
    let claimed = |host: &Host| {
        let made = host.ask("POST", "/claims", Some(&body)).expect(201);
        made["parts"][0]["mdev"].as_str().unwrap().to_owned()
    };
    let uuid = claimed(&host);
    let listed = defined(&host);
    for word in [uuid.as_str(), MDEV_GPU, "labgpu-475", "manual"] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    // mdevctl's definition of such a device has the same contents.
    let other = "11111111-2222-4333-8444-555555555555";
    let folder = format!("/etc/mdevctl.d/{MDEV_GPU}");
    host.sh(&format!("mdevctl define -u {other} -p {MDEV_GPU} -t labgpu-475"));
    let written = |uuid: &str| host.sh(&format!("jq -S . {folder}/{uuid}"));
    assert_eq!(written(&uuid), written(other));
    assert_eq!(release(&host, "job/one"), 204, "{}", host.log());
    let listed = defined(&host);
    assert!(!listed.contains(&uuid) && listed.contains(other), "{listed}");
    // A definition that was changed since belongs to another tool.
    let uuid = claimed(&host);
    host.sh(&format!("mdevctl modify -u {uuid} --auto"));
    let released = host.ask("DELETE", "/claims/job%2Fone", None).expect(200);
    let note = released["notes"][0].as_str().unwrap();
    assert!(note.contains("modified by another tool since") && note.contains(&uuid), "{note}");
    assert!(defined(&host).contains(&uuid));
    assert_eq!(snapshot(&host), before, "the device itself went");
    // It is created from its definition, and the definition is kept.
    let again = json!({ "owner": "job/two", "wants": [format!("mdev={uuid}")], "define": true });
    host.ask("POST", "/claims", Some(&again)).expect(201);
    assert_eq!(release(&host, "job/two"), 204, "{}", host.log());
    assert!(defined(&host).contains(&uuid));
    host.sh(&format!("mdevctl undefine -u {uuid}; mdevctl undefine -u {other}"));
    assert_eq!(defined(&host).trim(), "");
    assert_eq!(snapshot(&host), before);
}

/// The claims of the test: a part of each kind, and a whole device.
struct Victim {
    host: Host,
    before: String,
    wants: Vec<String>,
    /// The number of boundaries of a claim, and with its release.
    claiming: usize,
    all: usize,
}

impl Victim {
    fn new() -> Self {
        let host = server();
        let before = snapshot(&host);
        let wants = vec![
            format!("vf@{IGB},vlan=7"),
            format!("profile=labgpu-475@{MDEV_GPU}"),
            NVME.to_owned(),
        ];
        let mut victim = Self { host, before, wants, claiming: 0, all: 0 };
        let host = &victim.host;
        // Once before counting: loading modules is a step of the first claim only.
        victim.claim().expect(201);
        assert_eq!(release(host, "job/one"), 204);
        host.kill_daemon();
        host.serve("HANDOVER_TRACE_BOUNDARIES=/tmp/boundaries");
        victim.claim().expect(201);
        let claiming = traced(host);
        assert_eq!(release(host, "job/one"), 204);
        let all = traced(host);
        host.kill_daemon();
        println!("{claiming} boundaries in a claim, {} in its release", all - claiming);
        assert!(claiming > 30 && all - claiming > 20, "are boundaries missing?");
        victim.claiming = claiming;
        victim.all = all;
        victim
    }

    fn claim(&self) -> crate::support::Answer {
        let wants: Vec<&str> = self.wants.iter().map(String::as_str).collect();
        claim(&self.host, "job/one", &wants)
    }

    /// Starts the next daemon and checks that everything is as before; a claim that was committed just before the kill
    /// is complete.
    fn look(&self, boundary: usize) {
        let host = &self.host;
        host.serve("");
        let claims = host.get("/claims");
        for claim in claims.as_array().unwrap() {
            assert_eq!((boundary, claim["state"].as_str()), (self.claiming, Some("prepared")));
            expect_told(host, claim);
            self.claim().expect(200);
            assert_eq!(release(host, "job/one"), 204);
        }
        assert_eq!(
            known_to_containers(host),
            Vec::<String>::new(),
            "boundary {boundary}: {}",
            host.log()
        );
        assert_eq!(snapshot(host), self.before, "boundary {boundary}: {}", host.log());
        host.kill_daemon();
    }
}

fn traced(host: &Host) -> usize {
    host.sh("cat /tmp/boundaries").lines().count()
}

#[test]
fn killed_at_any_boundary_of_claims_of_each_kind_nothing_leaks() {
    if !wanted() {
        return;
    }
    let victim = Victim::new();
    for boundary in boundaries(1..=victim.claiming) {
        victim.host.serve(&format!("HANDOVER_KILL_AT={boundary}"));
        assert_eq!(victim.claim().status, 0, "it lived on after {boundary}");
        victim.look(boundary);
    }
}

#[test]
fn killed_at_any_boundary_of_releases_of_each_kind_nothing_leaks() {
    if !wanted() {
        return;
    }
    let victim = Victim::new();
    for boundary in boundaries(victim.claiming + 1..=victim.all) {
        victim.host.serve(&format!("HANDOVER_KILL_AT={boundary}"));
        victim.claim().expect(201);
        assert_eq!(release(&victim.host, "job/one"), 0, "it lived on after {boundary}");
        victim.look(boundary);
    }
}

/// The name of a function's driver.
fn driver(host: &Host, address: &str) -> String {
    host.drivers(&[address]).remove(address).unwrap()
}

/// Opens the GPU in a process, so that its driver waits for it.
fn hold(host: &Host) {
    host.sh(&format!(
        "echo 1 >/sys/module/labgpu/parameters/held
         setsid sleep 10000 3</dev/$(ls /sys/bus/pci/devices/{GPU}/misc) >/dev/null 2>&1 </dev/null & echo $! >/tmp/holder.pid; sleep 0.5"
    ));
}

/// An unbind that waits in the kernel for ever, like NVIDIA's with a leaked usage count: no user can be found. Returns
/// when a worker is in the kernel.
fn stick(host: &Host) {
    host.sh("mkdir -p /tmp/nothing; mount --bind /tmp/nothing /proc/$(</tmp/holder.pid)");
    host.sh(&format!(
        "rm -f /tmp/stuck
         setsid curl -s -m 200 -o /tmp/stuck localhost:8080/claims -d '{{\"owner\":\"job/stuck\",\"wants\":[\"{GPU}\"]}}' >/dev/null 2>&1 </dev/null &
         for i in $(seq 200); do [ -n \"$({INSIDE})\" ] && exit 0; sleep 0.1; done
         cat /tmp/stuck /tmp/handover.log; exit 1"
    ));
}

/// The processes that wait in the driver.
const INSIDE: &str = "grep -l '^State:.D' /proc/[0-9]*/status 2>/dev/null | while read -r f; do grep -l '^Name:.handover' $f; done";

/// Ends the process that uses the GPU.
fn let_go(host: &Host) {
    host.sh("umount /proc/$(</tmp/holder.pid); kill $(</tmp/holder.pid); echo 0 >/sys/module/labgpu/parameters/held");
}

#[test]
fn a_driver_that_never_unbinds_does_not_delay_other_claims() {
    if !wanted() {
        return;
    }
    let host = server();
    let before = snapshot(&host);
    hold(&host);
    // The error names the GPU's user; without eviction the claim fails.
    let users = claim(&host, "job/held", &[GPU]);
    users.refused(409, "in_use");
    assert!(users.body["message"].as_str().unwrap().contains("sleep"), "{users:?}");
    stick(&host);
    let began = Instant::now();
    let turns = if thoroughly() { 50 } else { 15 };
    for turn in 0..turns {
        claim(&host, "job/quick", &[&format!("vf@{IGB}")]).expect(201);
        assert_eq!(host.get("/claims").as_array().unwrap().len(), 2);
        assert_eq!(release(&host, "job/quick"), 204, "turn {turn}");
    }
    println!("{turns} claims and releases beside a stuck one: {:?}", began.elapsed());
    // After the deadline of the unbind the claim fails with the reason; the worker is still in the kernel.
    host.wait("the stuck claim's answer", 90, || {
        host.sh("cat /tmp/stuck 2>/dev/null || true").contains("device_wedged")
    });
    claim(&host, "job/again", &[GPU]).refused(409, "device_wedged");
    host.kill_daemon();
    host.serve("");
    claim(&host, "job/again", &[GPU]).refused(409, "device_wedged");
    assert_eq!(host.sh(INSIDE).lines().count(), 1, "another one went inside");
    let_go(&host);
    host.wait("the device", 60, || {
        host.ask("POST", "/reconcile", None);
        driver(&host, GPU) == "labgpu"
    });
    assert_eq!(host.get("/claims"), json!([]), "{}", host.log());
    assert_eq!(snapshot(&host), before, "{}", host.log());
}

#[test]
fn the_next_daemon_waits_for_the_worker_of_a_dead_one() {
    if !wanted() {
        return;
    }
    let host = server();
    let before = snapshot(&host);
    hold(&host);
    stick(&host);
    let inside = host.sh(INSIDE);
    host.kill_daemon();
    host.sh(SERVE_BEHIND);
    let health = || host.raw("localhost:8080/health").body;
    host.wait("what the daemon waits for", 60, || health()["recovering"][0]["state"] == "stuck");
    assert_eq!(health()["status"], "starting");
    assert_eq!(host.get("/claims").as_array().unwrap().len(), 1, "reading works");
    assert_eq!(host.sh(INSIDE), inside, "nobody else goes inside");
    let_go(&host);
    host.wait("the daemon", 120, || health()["status"] == "ok");
    assert_eq!(host.get("/claims"), json!([]), "{}", host.log());
    assert_eq!(snapshot(&host), before, "{}", host.log());
    claim(&host, "job/again", &[GPU]).expect(201);
    assert_eq!(release(&host, "job/again"), 204);
    assert_eq!(snapshot(&host), before, "{}", host.log());
}

#[test]
fn a_foreign_qemu_on_the_group_is_named_and_left_alone() {
    if !wanted() {
        return;
    }
    let host = server();
    host.sh(&format!(
        "modprobe vfio-pci; echo vfio-pci >/sys/bus/pci/devices/{NVME}/driver_override
         echo {NVME} >/sys/bus/pci/drivers/nvme/unbind; echo {NVME} >/sys/bus/pci/drivers_probe
         setsid qemu-system-x86_64 -M q35 -m 64 -display none -nodefaults -S -device vfio-pci,host={NVME} >/tmp/q.log 2>&1 </dev/null &
         for i in $(seq 100); do ls -l /proc/$(pgrep -x qemu-system-x86)/fd 2>/dev/null | grep -q vfio && exit 0; sleep 0.1; done; cat /tmp/q.log; exit 1"
    ));
    let before = snapshot(&host);
    let refusal = claim(&host, "job/one", &[NVME]);
    refusal.refused(409, "in_use");
    assert!(refusal.body["message"].as_str().unwrap().contains("qemu-system-x86"), "{refusal:?}");
    let evict = json!({ "owner": "job/one", "wants": [NVME], "evict": true });
    host.ask("POST", "/claims", Some(&evict)).refused(409, "in_use");
    let recovered = host.ask("POST", "/return", Some(&json!({ "all": true }))).expect(200);
    assert_eq!(recovered[0]["outcome"], "left", "{recovered:#}");
    assert_eq!(snapshot(&host), before);
    host.sh(
        "pkill -x qemu-system-x86; while pgrep -x qemu-system-x86 >/dev/null; do sleep 0.05; done",
    );
    let recovered = host.ask("POST", "/return", Some(&json!({ "all": true }))).expect(200);
    assert_eq!(recovered[0]["driver"], "nvme", "{recovered:#}");
}

#[test]
fn many_clients_at_once_never_get_the_same_function() {
    if !wanted() {
        return;
    }
    let host = server();
    let before = snapshot(&host);
    let seconds = if thoroughly() { 60 } else { 15 };
    // Each client claims a VF, checks that no other client has its address, and releases it.
    let clients = format!(
        "mkdir /tmp/owned; touch /tmp/none; cat >/tmp/client <<'END'
         until [ -e /tmp/stop ]; do
             vf=$(curl -s -m 150 localhost:8080/claims -d \"{{\\\"owner\\\":\\\"job/$1\\\",\\\"wants\\\":[\\\"vf@{IGB}\\\"]}}\" | jq -r '.parts[0].head // empty')
             [ -n \"$vf\" ] || {{ echo n >>/tmp/none; sleep 1; continue; }}
             mkdir /tmp/owned/$vf || echo \"$vf has two owners\" >>/tmp/twice
             echo y >>/tmp/had
             rmdir /tmp/owned/$vf
             curl -s -m 150 -X DELETE localhost:8080/claims/job%2F$1
         done
END
         for i in $(seq 64); do bash /tmp/client $i >/dev/null 2>&1 & done; sleep {seconds}; touch /tmp/stop; wait"
    );
    host.lab.exec_within(&clients, Duration::from_secs(300)).unwrap().success().unwrap();
    let report = host.sh("wc -l </tmp/had; wc -l </tmp/none; cat /tmp/twice 2>/dev/null || true");
    println!("claims had, refused, given twice: {report:?}");
    let lines: Vec<&str> = report.lines().collect();
    // The number per minute depends on the emulated processor.
    assert!(lines[0].parse::<u64>().unwrap() > 0, "{report}");
    assert_eq!(lines.len(), 2, "{report}");
    assert_eq!(host.get("/claims"), json!([]));
    assert_eq!(snapshot(&host), before);
}

#[test]
fn the_command_line_claims_without_a_daemon_and_through_one() {
    if !wanted() {
        return;
    }
    let host = Host::shared("server");
    let before = snapshot(&host);
    let made: Value =
        serde_json::from_str(&host.sh(&format!("handover claim {NVME} --owner job/one --json")))
            .unwrap();
    assert_eq!(made["state"], "prepared");
    host.serve("");
    let claims: Value = serde_json::from_str(&host.sh("handover claims --json")).unwrap();
    assert_eq!(claims[0]["id"], made["id"]);
    let locked = host
        .lab
        .exec_within(
            "handover claims --url unix:///run/none.sock --state-dir /var/lib/handover 2>&1",
            Duration::from_secs(30),
        )
        .unwrap();
    assert!(
        !locked.stdout.contains("job/one"),
        "another place is another daemon: {}",
        locked.stdout
    );
    host.sh("handover release job/one");
    // Without a daemon the next command ends a lease that expired.
    host.kill_daemon();
    host.sh(&format!("handover claim {NVME} --owner job/short --reserve --lease 1s; sleep 1.5"));
    assert_eq!(host.sh("handover claims --json").trim(), "[]");
    assert_eq!(snapshot(&host), before);
}

#[test]
fn a_full_or_broken_disk_is_refused_before_any_step() {
    if !wanted() {
        return;
    }
    let host = Host::shared("server");
    let disk = "mkdir -p /var/lib/handover; mount -o loop /tmp/disk.img /var/lib/handover";
    host.sh(&format!("truncate -s 64M /tmp/disk.img; mkfs.ext4 -q -m 0 /tmp/disk.img; {disk}"));
    host.serve("");
    let before = snapshot(&host);
    let works = |host: &Host| {
        claim(host, "job/one", &[NVME]).expect(201);
        assert_eq!(release(host, "job/one"), 204);
        assert_eq!(snapshot(host), before);
    };
    works(&host);
    host.sh("cat /dev/zero >/var/lib/handover/full 2>/dev/null || true");
    let full = claim(&host, "job/one", &[NVME]);
    full.refused(503, "state_unusable");
    assert!(full.body["message"].as_str().unwrap().contains("full"), "{full:?}");
    assert_eq!(snapshot(&host), before);
    assert_eq!(host.get("/claims"), json!([]));
    host.sh("rm /var/lib/handover/full");
    works(&host);
    // A disk error, after which ext4 is read-only.
    host.sh("mount -o remount,abort /var/lib/handover 2>&1 || true; ! touch /var/lib/handover/x 2>/dev/null");
    claim(&host, "job/one", &[NVME]).refused(503, "state_unusable");
    assert_eq!(snapshot(&host), before);
    // Neither a daemon nor a command without a daemon can claim there.
    host.kill_daemon();
    for command in ["serve", &format!("claim {NVME}")] {
        let refused = host.lab.exec(&format!("timeout 60 handover {command} 2>&1")).unwrap();
        assert_eq!(refused.status, 12, "{refused:?}");
        assert!(refused.stdout.contains("/var/lib/handover"), "{refused:?}");
    }
    assert_eq!(snapshot(&host), before);
    host.sh(&format!(
        "umount /var/lib/handover; fsck.ext4 -fy /tmp/disk.img >/tmp/fsck 2>&1 || true; {disk}"
    ));
    host.serve("");
    works(&host);
}
