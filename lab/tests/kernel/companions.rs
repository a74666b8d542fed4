//! Devices that the host uses: the HD audio function with its sound driver and a player, and the companions of a GPU.

use serde_json::json;

use crate::support::{AUDIO, Answer, GPU, Host, NIC, wanted};

/// The host's own display, and the hda beside it, in one group.
const DISPLAY: &str = "0000:02:00.0";
const HDA: &str = "0000:02:00.1";

fn claim(host: &Host, want: &str, evict: bool) -> Answer {
    let body = json!({ "owner": "job/sound", "wants": [want], "evict": evict });
    host.ask("POST", "/claims", Some(&body))
}

/// Starts a process that has this node open until SIGTERM; its pid.
fn player(host: &Host, node: &str) -> String {
    host.sh(&format!(
        "setsid bash -c 'exec -a player sleep 10000' 3<{node} >/dev/null 2>&1 </dev/null & echo $!; sleep 0.5"
    ))
    .trim()
    .to_owned()
}

fn lives(host: &Host, pid: &str) -> bool {
    host.lab.exec(&format!("kill -0 {pid}")).unwrap().status == 0
}

#[test]
fn users_of_the_sound_card_are_named_and_evicted_only_on_request() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    host.serve("");
    host.sh("modprobe snd_hda_intel; for try in $(seq 100); do [ -e /dev/snd/controlC0 ] && exit 0; sleep 0.1; done; ls -lR /dev/snd; dmesg | grep -i hda; exit 1");
    assert_eq!(host.drivers(&[HDA])[HDA], "snd_hda_intel");
    let before = host.snapshot();
    let pid = player(&host, "/dev/snd/controlC0");

    // Claimed alone, and as a member of the display's assembly.
    for asked in [HDA, DISPLAY] {
        let refusal = claim(&host, asked, false);
        refusal.refused(409, "in_use");
        let text = refusal.body.to_string();
        assert!(
            text.contains(&format!("pid {pid}")) && text.contains("/dev/snd/controlC0"),
            "{text}"
        );
        assert!(text.contains("--evict"), "{text}");
    }
    assert_eq!(host.snapshot(), before);
    assert!(lives(&host, &pid));

    let made = claim(&host, HDA, true).expect(201);
    assert_eq!(made["state"], "prepared", "{made:#}");
    assert!(!lives(&host, &pid));
    assert_eq!(host.drivers(&[HDA])[HDA], "vfio-pci");
    assert_eq!(host.ask("DELETE", "/claims/job%2Fsound", None).status, 204, "{}", host.log());
    assert_eq!(host.snapshot(), before);
    host.sh(
        "for try in $(seq 100); do [ -e /dev/snd/controlC0 ] && exit 0; sleep 0.1; done; exit 1",
    );
}

#[test]
fn a_gpu_claimed_alone_still_takes_its_iommu_group() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    host.serve("");
    let before = host.snapshot();
    let members = |claim: &serde_json::Value| -> Vec<String> {
        let all = claim["parts"][0]["members"].as_array().unwrap();
        all.iter().map(|member| member["address"].as_str().unwrap().to_owned()).collect()
    };
    let made = claim(&host, GPU, false).expect(201);
    assert_eq!(members(&made), [GPU, AUDIO]);
    assert_eq!(
        host.drivers(&[GPU, AUDIO]).into_values().collect::<Vec<_>>(),
        ["vfio-pci", "vfio-pci"]
    );
    assert_eq!(host.ask("DELETE", "/claims/job%2Fsound", None).status, 204);
    assert_eq!(host.snapshot(), before);

    let alone = json!({ "owner": "job/alone", "wants": [GPU], "alone": true });
    let made = host.ask("POST", "/claims", Some(&alone)).expect(201);
    assert_eq!(members(&made), [GPU, AUDIO], "VFIO would not open the group otherwise");
    assert_eq!(host.ask("DELETE", "/claims/job%2Falone", None).status, 204);
    assert_eq!(host.snapshot(), before);
}

/// The kernel's file `reset` refuses a bus with two functions; VFIO resets it for the owner of both.
#[test]
fn a_display_and_its_sound_are_reset_together() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    host.serve("");
    let methods = host.sh(&format!("cat /sys/bus/pci/devices/{DISPLAY}/reset_method"));
    assert_eq!(methods.trim(), "bus", "the test is about a device without a reset of its own");
    let before = host.snapshot();
    host.sh(&format!("handover device reset {DISPLAY}"));
    assert_eq!(host.snapshot(), before);
    let body = json!({ "owner": "job/reset", "wants": [DISPLAY], "reset": true });
    host.ask("POST", "/claims", Some(&body)).expect(201);
    assert_eq!(host.ask("DELETE", "/claims/job%2Freset", None).status, 204, "{}", host.log());
    assert_eq!(host.snapshot(), before);
}

/// `ip netns add` makes a namespace without a process.
#[test]
fn a_nic_in_a_network_namespace_without_a_process_is_in_use() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    host.serve("");
    let name = host.sh(&format!("ls /sys/bus/pci/devices/{NIC}/net")).trim().to_owned();
    host.sh(&format!(
        "ip netns add vpp; ip link set {name} netns vpp
         ip -n vpp address add 192.0.2.7/24 dev {name}; ip -n vpp link set {name} up"
    ));
    let refused = |words: &str| {
        for asked in [NIC, "nic"] {
            let refusal = claim(&host, asked, false);
            assert_eq!(refusal.status, 409, "{asked}: {:#}", refusal.body);
            assert!(refusal.body.to_string().contains(words), "{asked}: {:#}", refusal.body);
        }
        let listed = host.sh(&format!("handover ls {NIC}"));
        assert!(listed.contains("in use") && listed.contains(words), "{listed}");
        let checked = host.sh(&format!("handover doctor --for {NIC} || true"));
        let checked = checked.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(checked.contains(words), "{checked}");
    };
    refused("network namespace at /run/netns/vpp");
    // Only an open file keeps it: which namespace it is cannot be found.
    let pid = host.sh(
        "setsid sleep 10000 9</run/netns/vpp >/dev/null 2>&1 </dev/null & echo $!; sleep 0.5; ip netns delete vpp",
    );
    refused("a network namespace that cannot be read");
    host.sh(&format!(
        "kill {}; for try in $(seq 100); do [ -e /sys/class/net/{name} ] && exit 0; sleep 0.1; done; exit 1",
        pid.trim()
    ));
}
