//! Faulty devices: one that does not survive a reset, and one whose driver creates too few virtual functions. Each is
//! refused with the reason, changes are rolled back, and the other devices work.

use serde_json::{Value, json};

use crate::support::{Answer, Host, IGB, wanted};

/// The functions of the `faulty` topology: two GPUs that do not survive a reset, a healthy one, and the e1000e.
const LOST: &str = "0000:01:00.0";
const LOST_LATER: &str = "0000:02:00.0";
const SOUND: &str = "0000:03:00.0";
const NIC: &str = "0000:04:00.0";

/// A kernel that waits for a device gives up after 71 s (docs/kernel.md).
const GIVING_UP: u64 = 240;

fn claim(host: &Host, owner: &str, want: &str) -> Answer {
    let body = json!({ "owner": owner, "wants": [want], "reset": true });
    host.ask("POST", "/claims", Some(&body))
}

fn release(host: &Host, owner: &str) -> Answer {
    host.ask("DELETE", &format!("/claims/{}", owner.replace('/', "%2F")), None)
}

fn message(answer: &Answer) -> &str {
    answer.body["message"].as_str().unwrap()
}

/// The state of a registered device, and the reason.
fn state(host: &Host, name: &str) -> (String, String) {
    let device = host.get(&format!("/devices/{name}"));
    let word = |key: &str| device[key].as_str().unwrap_or_default().to_owned();
    (word("state"), word("state_reason"))
}

/// Another device can be claimed and released, with a reset.
fn others_work(host: &Host, want: &str) {
    claim(host, "job/other", want).expect(201);
    assert_eq!(release(host, "job/other").status, 204, "{}", host.log());
}

#[test]
fn a_device_that_no_reset_brings_back_is_quarantined_and_named() {
    if !wanted() {
        return;
    }
    let host = Host::boot("faulty");
    host.serve("");
    for (name, address) in [("lost", LOST), ("later", LOST_LATER), ("sound", SOUND)] {
        host.register(name, address);
    }
    // The kernel waits more than a minute for each: for both at the same time.
    lost_while_claimed(&host);
    lost_by_a_claims_own_reset(&host);
    its_release_says_so(&host);

    // Neither is chosen again; the healthy one is.
    let any = claim(&host, "job/any", "gpu").expect(201);
    assert_eq!(any["parts"][0]["head"], SOUND, "{any:#}");
    claim(&host, "job/more", "gpu").refused(409, "insufficient_resources");
    assert_eq!(release(&host, "job/any").status, 204);

    // The next daemon knows it, too, and clearing it fails its check.
    host.kill_daemon();
    host.serve("");
    for (name, address) in [("lost", LOST), ("later", LOST_LATER)] {
        assert_eq!(state(&host, name).0, "quarantined");
        claim(&host, "job/again", address).refused(409, "device_wedged");
        let cleared = host.lab.exec(&format!("handover device clear {address} 2>&1")).unwrap();
        assert_eq!(cleared.status, 9, "{cleared:?}");
        assert!(cleared.stdout.contains("still does not answer"), "{cleared:?}");
    }
    assert_eq!(state(&host, "sound").0, "free");
    others_work(&host, SOUND);
    others_work(&host, NIC);
}

/// The device does not survive the claim's reset: the claim fails with the reason. While the kernel waits for the
/// device, other devices can be claimed.
fn lost_by_a_claims_own_reset(host: &Host) {
    host.sh(&format!(
        "setsid curl -s -m 300 -o /tmp/lost -w '%{{http_code}}' localhost:8080/claims -d '{{\"owner\":\"job/lost\",\"wants\":[\"{LOST}\"],\"reset\":true}}' >/tmp/lost.status 2>/dev/null </dev/null &"
    ));
    host.wait("the reset", 60, || {
        host.sh("dmesg").contains(&format!("{LOST}: not ready"))
            || !host.sh("cat /tmp/lost.status").is_empty()
    });
    others_work(host, NIC);
    others_work(host, SOUND);
    host.wait("the lost claim's answer", GIVING_UP, || !host.sh("cat /tmp/lost.status").is_empty());
    let body = host.sh("cat /tmp/lost");
    let answer = Answer {
        status: host.sh("cat /tmp/lost.status").trim().parse().unwrap(),
        body: serde_json::from_str(&body).unwrap_or(Value::Null),
    };
    answer.refused(409, "device_wedged");
    let said = message(&answer);
    let silent = format!("{LOST} no longer answers: its configuration space reads as all ones");
    assert!(said.contains(&silent), "{said}");
    assert!(said.contains("reset"), "what was done to it is not told: {said}");
    let (state, reason) = state(host, "lost");
    assert_eq!(state, "quarantined", "{reason}");
    assert!(reason.contains("configuration space reads as"), "{reason}");
    claim(host, "job/again", LOST).refused(409, "device_wedged");
}

/// Another tool resets a claimed device.
fn lost_while_claimed(host: &Host) {
    let body = json!({ "owner": "job/later", "wants": [LOST_LATER] });
    host.ask("POST", "/claims", Some(&body)).expect(201);
    let file = format!("/sys/bus/pci/devices/{LOST_LATER}/reset");
    host.sh(&format!(
        "setsid sh -c 'echo 1 >{file}; touch /tmp/reset' >/dev/null 2>&1 </dev/null &"
    ));
}

/// The release of such a device ends, and reports its state.
fn its_release_says_so(host: &Host) {
    host.wait("the reset's end", GIVING_UP, || !host.sh("ls /tmp/reset || true").is_empty());
    let released = release(host, "job/later");
    released.refused(409, "device_wedged");
    assert!(message(&released).contains(LOST_LATER), "{released:?}");
    let (state, reason) = state(host, "later");
    assert_eq!(state, "quarantined", "{reason}");
    assert_eq!(host.drivers(&[LOST_LATER])[LOST_LATER], "vfio-pci", "no driver may hang on it");
}

/// The igb's physical function with the lab's driver that creates at most three virtual functions.
fn at_most_three() -> Host {
    let host = Host::boot("server");
    host.sh(&format!(
        "modprobe labpf; cd /sys/bus/pci/devices/{IGB}; echo labpf >driver_override
         echo {IGB} >driver/unbind; echo {IGB} >/sys/bus/pci/drivers_probe; [ \"$(basename $(readlink driver))\" = labpf ]"
    ));
    host.serve("");
    host
}

fn set_count(host: &Host, count: u16) -> Answer {
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&json!({ "count": count })))
}

/// The kernel's number, autoprobe, and the existing functions.
fn virtual_functions(host: &Host) -> String {
    host.sh(&format!(
        "cd /sys/bus/pci/devices/{IGB}; cat sriov_numvfs sriov_drivers_autoprobe; for f in virtfn*; do [ ! -e $f ] || basename $(readlink $f); done"
    ))
}

#[test]
fn fewer_virtual_functions_than_requested_are_rolled_back() {
    if !wanted() {
        return;
    }
    let host = at_most_three();
    let (before, none) = (host.snapshot(), virtual_functions(&host));
    assert_eq!(none, "0\n1\n");

    let four = set_count(&host, 4);
    four.refused(500, "step_failed");
    assert!(message(&four).contains("3 virtual functions instead of 4"), "{four:?}");
    assert_eq!(virtual_functions(&host), none, "{}", host.log());
    assert_eq!(host.get("/sriov"), json!([]));
    let typed = host.lab.exec(&format!("handover sriov set {IGB} 4 2>&1")).unwrap();
    assert_eq!(typed.status, 9, "{typed:?}");
    assert!(typed.stdout.contains("instead of 4"), "{typed:?}");
    claim(&host, "job/vf", &format!("vf@{IGB}")).refused(409, "insufficient_resources");
    assert_eq!(host.snapshot(), before);

    // Its maximum works; a change to more is rolled back.
    set_count(&host, 3).expect(204);
    let three = virtual_functions(&host);
    assert_eq!(three.lines().count(), 5, "{three}");
    set_count(&host, 5).refused(500, "step_failed");
    assert_eq!(virtual_functions(&host), three, "{}", host.log());
    assert_eq!(host.get("/sriov")[0]["count"], 3);
    let two = format!("2xvf@{IGB}");
    let body = json!({ "owner": "job/vfs", "wants": [two] });
    host.ask("POST", "/claims", Some(&body)).expect(201);
    set_count(&host, 4).refused(409, "in_use");
    assert_eq!(release(&host, "job/vfs").status, 204, "{}", host.log());
    // autoprobe is restored.
    let ended = json!({ "count": 0, "autoprobe": true });
    host.ask("POST", &format!("/sriov/{IGB}"), Some(&ended)).expect(204);
    assert_eq!(virtual_functions(&host), none, "{}", host.log());
    assert_eq!(host.snapshot(), before);
}
