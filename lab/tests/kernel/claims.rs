//! Claims on a real kernel: every kind of device and part, used by a machine that is not ours, killed at every boundary,
//! and asked for by many at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Host, wanted};

/// The functions of the `server` topology.
const IGB: &str = "0000:01:00.0";
const NVME: &str = "0000:02:00.0";
const GPU: &str = "0000:23:00.0";
const MDEV_GPU: &str = "0000:44:00.0";

/// Everything that a claim changes: what a hand-over does, VFs and what they were told, mediated devices.
fn snapshot(host: &Host) -> String {
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

fn server() -> Host {
    let host = Host::boot("server");
    host.serve("");
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&json!({ "count": 4 }))).expect(204);
    host
}

#[test]
fn each_kind_of_device_is_claimed_used_by_anybodys_qemu_and_given_back() {
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
        let device = made["attach"]["qemu"][0].as_str().unwrap();
        let group = made["attach"]["groups"][0].as_str().unwrap().to_owned();
        // A person's own QEMU, with what the answer says and nothing else.
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
    let told = host.sh("ip link show | grep -o ' vf 0 .*'");
    assert!(
        told.contains("52:54:00:00:77:01") && told.contains("vlan 7") && told.contains("trust on"),
        "{told}"
    );
    // The whole device, its count, and a device that is a claim's are not to be had.
    claim(&host, "job/other", &[IGB]).refused(409, "in_use");
    claim(&host, "job/other", &[MDEV_GPU]).refused(409, "in_use");
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&json!({ "count": 0 }))).refused(409, "in_use");
    for owner in ["job/vf", "job/mdev", "job/nvme", "job/gpu"] {
        assert_eq!(release(&host, owner), 204, "{owner}: {}", host.log());
    }
    assert_eq!(snapshot(&host), before);
}

#[test]
fn killed_at_every_boundary_of_claims_of_each_kind_nothing_leaks() {
    if !wanted() {
        return;
    }
    let host = server();
    let before = snapshot(&host);
    host.kill_daemon();
    let vf = format!("vf@{IGB},vlan=7");
    let mdev = format!("profile=labgpu-475@{MDEV_GPU}");
    let wants = [vf.as_str(), &mdev, NVME];
    host.sh("rm -f /tmp/boundaries");
    host.serve("HANDOVER_TRACE_BOUNDARIES=/tmp/boundaries");
    claim(&host, "job/one", &wants).expect(201);
    let traced = |host: &Host| host.sh("cat /tmp/boundaries").lines().count();
    let claiming = traced(&host);
    assert_eq!(release(&host, "job/one"), 204);
    let all = traced(&host);
    host.kill_daemon();
    println!("{claiming} boundaries in a claim, {} in its release", all - claiming);
    assert!(claiming > 40 && all - claiming > 30, "are boundaries missing?");
    for boundary in 1..=claiming {
        host.serve(&format!("HANDOVER_KILL_AT={boundary}"));
        assert_eq!(claim(&host, "job/one", &wants).status, 0, "it lived on after {boundary}");
        host.serve("");
        assert_eq!(host.get("/claims"), json!([]), "boundary {boundary}: {}", host.log());
        assert_eq!(snapshot(&host), before, "boundary {boundary}: {}", host.log());
        host.kill_daemon();
    }
    for boundary in 1..=all - claiming {
        host.serve("");
        claim(&host, "job/one", &wants).expect(201);
        host.kill_daemon();
        host.serve(&format!("HANDOVER_KILL_AT={boundary}"));
        assert_eq!(release(&host, "job/one"), 0, "it lived on after {boundary}");
        host.serve("");
        assert_eq!(host.get("/claims"), json!([]), "boundary {boundary}: {}", host.log());
        assert_eq!(snapshot(&host), before, "boundary {boundary}: {}", host.log());
        host.kill_daemon();
    }
}

#[test]
fn a_driver_that_never_lets_go_holds_up_nobody_else() {
    if !wanted() {
        return;
    }
    let host = server();
    host.sh("modprobe labgpu; echo 1 >/sys/module/labgpu/parameters/held; setsid sleep 10000 3</dev/labgpu0 >/dev/null 2>&1 </dev/null & echo $! >/tmp/holder.pid; sleep 0.2");
    // The driver's user is named first; whoever evicts nobody goes no further.
    let users = claim(&host, "job/held", &[GPU]);
    if users.status != 409 {
        println!("nobody was named for {GPU}: {users:?}");
    }
    let gpu = host.sh(
        "for d in /sys/bus/pci/devices/*; do [ -e $d/misc/labgpu0 ] && basename $d; done; true",
    );
    let gpu = gpu.trim();
    claim(&host, "job/held", &[gpu]).refused(409, "in_use");
    // An unbind that waits in the kernel for ever, as a leaked usage count makes NVIDIA's do: the sleeper is hidden from us.
    host.sh("mount --bind /proc/self /proc/$(cat /tmp/holder.pid)");
    host.sh(&format!(
        "curl -s -m 200 -o /tmp/wedged localhost:8080/claims -d '{{\"owner\":\"job/wedged\",\"wants\":[\"{gpu}\"]}}' & sleep 2"
    ));
    let began = std::time::Instant::now();
    for turn in 0..50 {
        claim(&host, "job/quick", &[&format!("vf@{IGB}")]).expect(201);
        host.get("/devices");
        assert_eq!(release(&host, "job/quick"), 204, "turn {turn}");
    }
    println!("100 requests and 50 claims beside a stuck one: {:?}", began.elapsed());
    // The daemon dies too: the next one waits for the worker, and does not undo under it.
    host.kill_daemon();
    host.sh("setsid handover serve --listen 127.0.0.1:8080 --no-auth >>/tmp/handover.log 2>&1 </dev/null & echo $! >/tmp/handover.pid; sleep 3");
    let state = host.sh(&format!("basename $(readlink /sys/bus/pci/devices/{gpu}/driver) 2>/dev/null; cat /sys/bus/pci/devices/{gpu}/driver_override"));
    assert!(!state.contains("vfio-pci\nvfio"), "it was bound under the worker: {state}");
    host.sh("umount /proc/$(cat /tmp/holder.pid); kill $(cat /tmp/holder.pid)");
    host.wait("the daemon", 120, || host.raw("localhost:8080/health").status == 200);
    host.wait("the device", 60, || {
        host.sh(&format!("basename $(readlink /sys/bus/pci/devices/{gpu}/driver) || true")).trim()
            == "labgpu"
    });
    assert_eq!(host.get("/claims"), json!([]), "{}", host.log());
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
    let recovered = host.ask("POST", "/recover", Some(&json!({}))).expect(200);
    assert_eq!(recovered[0]["outcome"], "left", "{recovered:#}");
    assert_eq!(snapshot(&host), before);
    host.sh(
        "pkill -x qemu-system-x86; while pgrep -x qemu-system-x86 >/dev/null; do sleep 0.05; done",
    );
    let recovered = host.ask("POST", "/recover", Some(&json!({}))).expect(200);
    assert_eq!(recovered[0]["driver"], "nvme", "{recovered:#}");
}

#[test]
fn many_clients_at_once_never_get_the_same_function() {
    if !wanted() {
        return;
    }
    let host = server();
    let before = snapshot(&host);
    // Each client claims a VF, checks that nobody else has its address, and gives it back.
    host.sh(&format!(
        "mkdir /tmp/owned; cat >/tmp/client <<'END'
         until [ -e /tmp/stop ]; do
             vf=$(curl -s -m 60 localhost:8080/claims -d \"{{\\\"owner\\\":\\\"job/$1\\\",\\\"wants\\\":[\\\"vf@{IGB}\\\"]}}\" | jq -r '.parts[0].head // empty')
             [ -n \"$vf\" ] || {{ echo n >>/tmp/none; continue; }}
             mkdir /tmp/owned/$vf || echo \"$vf has two owners\" >>/tmp/twice
             echo y >>/tmp/had
             rmdir /tmp/owned/$vf
             curl -s -m 60 -X DELETE localhost:8080/claims/job%2F$1
         done
END
         for i in $(seq 64); do bash /tmp/client $i & done; sleep 60; touch /tmp/stop; wait"
    ));
    let report = host.sh("wc -l </tmp/had; wc -l </tmp/none; cat /tmp/twice 2>/dev/null || true");
    println!("claims had, refused, given twice: {report:?}");
    let lines: Vec<&str> = report.lines().collect();
    assert!(lines[0].parse::<u64>().unwrap() >= 20, "{report}");
    assert_eq!(lines.len(), 2, "{report}");
    assert_eq!(host.get("/claims"), json!([]));
    assert_eq!(snapshot(&host), before);
}

#[test]
fn the_command_line_claims_without_a_daemon_and_through_one() {
    if !wanted() {
        return;
    }
    let host = Host::boot("server");
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
    assert_eq!(snapshot(&host), before);
}

#[test]
fn a_full_disk_is_told_before_a_device_is_touched() {
    if !wanted() {
        return;
    }
    let host = Host::boot("server");
    host.sh("mkdir -p /var/lib/handover; mount -t tmpfs -o size=1m none /var/lib/handover");
    host.serve("");
    let before = snapshot(&host);
    host.sh("head -c 10M /dev/zero >/var/lib/handover/full 2>/dev/null || true");
    claim(&host, "job/one", &[NVME]).refused(503, "state_unusable");
    assert_eq!(snapshot(&host), before);
    host.sh("rm /var/lib/handover/full; mount -o remount,ro /var/lib/handover");
    claim(&host, "job/one", &[NVME]).refused(503, "state_unusable");
    assert_eq!(snapshot(&host), before);
    host.sh("mount -o remount,rw /var/lib/handover");
    claim(&host, "job/one", &[NVME]).expect(201);
    assert_eq!(release(&host, "job/one"), 204);
    assert_eq!(snapshot(&host), before);
}
