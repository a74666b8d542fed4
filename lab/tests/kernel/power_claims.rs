//! The power goes while claims are made and released: after it, on the same disk, what was acknowledged is there,
//! nothing is half done, and devices are the host's until their claims are prepared again.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lab::{Options, images::Choice};
use serde_json::{Value, json};

use crate::support::{Host, thoroughly, wanted};

const IGB: &str = "0000:01:00.0";

/// The owners, and the device that each claims and releases repeatedly.
const LOOPS: [(&str, &[&str]); 3] = [
    ("job/parts", &["vf@0000:01:00.0,vlan=7", "profile=labgpu-475@0000:44:00.0"]),
    ("job/drive", &["0000:02:00.0"]),
    ("job/gpu", &["0000:23:00.0"]),
];

/// Debian's kernel: the slim one has no device mapper.
fn boot(state: &Path) -> Host {
    let options = Options {
        topology: "server".into(),
        kernel: Choice::Stock,
        state: Some(state.to_owned()),
        ..Options::default()
    };
    Host::with(&options)
}

/// Drivers, reservations, and parts of devices; not the numbers of groups, which are another boot's.
fn devices(host: &Host) -> String {
    host.sh(
        "cd /sys/bus/pci/devices; for d in *; do echo $d $(basename \"$(readlink $d/driver)\") $(cat $d/driver_override) $(cat $d/sriov_numvfs 2>/dev/null); done
         ls /sys/bus/mdev/devices; ip link show | grep -o ' vf [0-9]* .*'; true",
    )
}

/// The knowledge of an owner.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Whether its last answer was that it has its claim.
    has: bool,
    /// Whether it is waiting for an answer: then both states are valid.
    asking: bool,
    /// The number of its claims so far.
    turns: u32,
}

/// Claims and releases until the power cut.
fn claim_and_release(host: &Host, owner: &str, wants: &[&str], told: &Mutex<Told>) {
    let ask = |arguments: &str, expected: &str, has: bool| -> bool {
        told.lock().unwrap().asking = true;
        let script = format!("curl -s -m 100 -w '\\n%{{http_code}}' {arguments} || true");
        let answer = host.lab.exec_within(&script, Duration::from_secs(110));
        let Ok(answer) = answer else { return false };
        assert!(answer.stdout.ends_with(expected), "{owner}: {}", answer.stdout);
        let mut told = told.lock().unwrap();
        *told = Told { has, asking: false, turns: told.turns + u32::from(has) };
        drop(told);
        // Long enough that some owners have no pending request at the cut.
        std::thread::sleep(Duration::from_millis(500));
        true
    };
    let body = json!({ "owner": owner, "wants": wants });
    let path = format!("localhost:8080/claims/{}", owner.replace('/', "%2F"));
    while ask(&format!("-d '{body}' localhost:8080/claims"), "\n201", true)
        && ask(&format!("-X DELETE {path}"), "\n204", false)
    {}
}

/// Lets all owners work until they are in the wanted states, cuts the power, and returns the knowledge of each.
fn cut_while_they_work(host: &Host, when: impl Fn(&[Told]) -> bool) -> Vec<Told> {
    let told: Vec<Mutex<Told>> = LOOPS.iter().map(|_| Mutex::default()).collect();
    let now = || -> Vec<Told> { told.iter().map(|told| *told.lock().unwrap()).collect() };
    let until = Instant::now() + Duration::from_secs(90);
    std::thread::scope(|scope| {
        for ((owner, wants), told) in LOOPS.iter().zip(&told) {
            scope.spawn(move || claim_and_release(host, owner, wants, told));
        }
        while !when(&now()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        host.lab.cut_power();
        // Later requests get no answer.
        now()
    })
}

/// Whether some owners know that they have their claim or none, while others wait for an answer.
fn in_the_middle(told: &[Told], has: bool) -> bool {
    told.iter().any(|one| one.turns > 0 && !one.asking && one.has == has)
        && told.iter().any(|one| one.asking)
}

fn of<'a>(claims: &'a Value, owner: &str) -> Option<&'a Value> {
    claims.as_array().unwrap().iter().find(|claim| claim["owner"] == owner)
}

#[test]
fn a_power_cut_loses_no_claim_and_leaves_none_half_done() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.img");
    let mut host = boot(&state);
    host.serve("");
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&json!({ "count": 4 }))).expect(204);
    let before = devices(&host);
    let steady = json!({ "owner": "job/steady", "wants": ["0000:24:00.0"] });
    host.ask("POST", "/claims", Some(&steady)).expect(201);
    for has in if thoroughly() { &[true, false, true][..] } else { &[true] } {
        let has = *has;
        let told = cut_while_they_work(&host, |told| in_the_middle(told, has));
        println!("cut: {told:?}");
        drop(host);
        host = boot(&state);
        host.serve("");
        assert_eq!(devices(&host), before, "{}", host.log());
        let claims = host.get("/claims");
        assert!(of(&claims, "job/steady").is_some(), "{claims:#}");
        for ((owner, _), told) in LOOPS.iter().zip(&told) {
            let there = of(&claims, owner).is_some();
            assert!(told.asking || there == told.has, "{owner}: {told:?}, and {claims:#}");
        }
        for claim in claims.as_array().unwrap() {
            assert_eq!(claim["state"], "reserved", "{claim:#}");
            let path = format!("/claims/{}", claim["id"].as_str().unwrap());
            let made = host.ask("POST", &format!("{path}/prepare"), Some(&json!({}))).expect(200);
            assert_eq!(made["state"], "prepared", "{made:#}");
            if claim["owner"] == "job/steady" {
                continue;
            }
            host.ask("DELETE", &path, None).expect(204);
        }
    }
    assert_eq!(host.ask("DELETE", "/claims/job%2Fsteady", None).status, 204);
    a_machine_opens_its_group(&host);
    assert_eq!(devices(&host), before, "{}", host.log());
}

/// Debian's kernel has no iommufd: the machine's user owns the node of its GPU's group.
fn a_machine_opens_its_group(host: &Host) {
    // The disk of this test has no room for an image.
    host.kill_daemon();
    host.sh("mount -t tmpfs state /var/lib/handover");
    host.serve("");
    host.import_guest("guest", "handover.stay=1");
    let gpu = "0000:24:00.0";
    host.sh(&format!(
        "handover instance create one --image guest --size 256MB --vcpus 1 --device {gpu}"
    ));
    assert_eq!(host.get("/instances/one")["device_access"], "groups");
    assert_eq!(host.sh("find /dev -user 1900000000 | wc -l").trim(), "1");
    host.sh("handover instance rm one; handover image rm guest");
}

#[test]
fn after_lost_writes_the_claims_are_those_of_the_last_kept_write() {
    if !thoroughly() {
        println!("SKIPPED: make lab-long has a disk that lies");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.img");
    let host = boot(&state);
    host.serve("");
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&json!({ "count": 4 }))).expect(204);
    let before = devices(&host);
    let claim = |host: &Host, owner: &str, want: &str| {
        let body = json!({ "owner": owner, "wants": [want] });
        host.ask("POST", "/claims", Some(&body)).expect(201);
    };
    claim(&host, "job/before", "0000:24:00.0");
    host.lab.lose_writes().unwrap();
    claim(&host, "job/after", "0000:43:00.0");
    cut_while_they_work(&host, |told| in_the_middle(told, true));
    drop(host);
    let host = boot(&state);
    host.serve("");
    assert_eq!(devices(&host), before, "{}", host.log());
    let claims = host.get("/claims");
    assert_eq!(claims.as_array().unwrap().len(), 1, "{claims:#}");
    assert_eq!(of(&claims, "job/before").unwrap()["state"], "reserved");
    claim(&host, "job/after", "0000:43:00.0");
    for owner in ["before", "after"] {
        assert_eq!(host.ask("DELETE", &format!("/claims/job%2F{owner}"), None).status, 204);
    }
    assert_eq!(devices(&host), before, "{}", host.log());
}
