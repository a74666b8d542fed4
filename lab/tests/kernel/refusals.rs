//! Bad input, on a real kernel: each error has its code and a remedy, and nothing on the host changes.

use crate::support::{GPU, Host, NIC, wanted};
use serde_json::json;

#[test]
fn impossible_requests_are_refused_and_change_nothing() {
    if !wanted() {
        return;
    }
    let host = Host::boot("workstation");
    host.serve("");
    host.import_guest("guest", "handover.stay=1");
    host.register("gpu0", GPU);
    host.register("nic0", NIC);
    let before = host.snapshot();

    devices(&host);
    instances(&host);
    assert_eq!(host.snapshot(), before);

    a_device_in_use(&host);
    assert_eq!(host.snapshot(), before);

    a_device_that_a_process_holds(&host);
    assert_eq!(host.snapshot(), before);

    a_second_daemon(&host);
    assert_eq!(host.snapshot(), before);

    without_qemu(&host);
    assert_eq!(host.snapshot(), before);

    without_vfio(&host);
    assert_eq!(host.snapshot(), before);

    tokens(&host);
    state_that_cannot_be_used(&host);
    assert_eq!(host.snapshot(), before);
}

fn devices(host: &Host) {
    let post = |body| host.ask("POST", "/devices", Some(&body));
    post(json!({ "pci_address": "0000:77:00.0" })).refused(404, "device_not_found");
    post(json!({ "pci_address": "gpu number one" })).refused(400, "invalid_pci_address");
    post(json!({ "pci_address": "0000:00:02.0" })).refused(409, "not_assignable");
    post(json!({ "pci_address": GPU, "name": "again" })).refused(409, "conflict");
    post(json!({ "pci_address": "0000:04:00.0", "name": "gpu0" })).refused(409, "conflict");
    post(json!({ "pci_address": "0000:04:00.0", "name": "../x" })).refused(400, "invalid_name");
    host.raw("-d '{\"pci_address\": ' localhost:8080/devices").refused(400, "invalid_request");
    host.ask("GET", "/devices/none", None).refused(404, "not_found");
}

fn instances(host: &Host) {
    let post = |body| host.ask("POST", "/instances", Some(&body));
    let machine = |name: &str, image: &str, device: &str| Host::machine(name, image, &[device]);
    post(machine("Bad_Name", "guest", "gpu0")).refused(400, "invalid_name");
    post(machine("vm", "no-such-image", "gpu0")).refused(404, "not_found");
    post(machine("vm", "guest", "no-such-device")).refused(404, "not_found");
    let sized =
        |size: &str| json!({ "name": "vm", "image": "guest", "size": size, "devices": ["gpu0"] });
    post(sized("900GB")).refused(409, "insufficient_resources");
    post(sized("much")).refused(400, "invalid_size");
    host.raw("-d 'not json' localhost:8080/instances").refused(400, "invalid_request");
}

fn a_device_in_use(host: &Host) {
    host.create("/instances", &Host::machine("first", "guest", &["gpu0"]));
    let second = Host::machine("second", "guest", &["gpu0"]);
    host.ask("POST", "/instances", Some(&second)).refused(409, "in_use");
    let first = Host::machine("first", "guest", &["nic0"]);
    host.ask("POST", "/instances", Some(&first)).refused(409, "name_conflict");
    host.ask("DELETE", "/devices/gpu0", None).refused(409, "in_use");
    host.ask("DELETE", "/images/guest", None).refused(409, "in_use");
    host.ask("DELETE", "/instances/first", None).expect(204);
}

fn a_device_that_a_process_holds(host: &Host) {
    host.sh("exec 9<>$(echo /dev/labgpu*); (exec -a some-cuda-job sleep 1000) >/dev/null 2>&1 & echo $! >/tmp/holder");
    let machine = Host::machine("vm", "guest", &["gpu0"]);
    let answer = host.ask("POST", "/instances", Some(&machine));
    answer.refused(409, "in_use");
    let holder = host.sh("cat /tmp/holder");
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains(holder.trim()), "it does not name process {holder}: {message}");
    host.sh("kill $(</tmp/holder); while [ -e /proc/$(</tmp/holder) ]; do sleep 0.05; done");
}

/// One Handover changes a host: not one more in a container that shares nothing with the host but its kernel, nor one
/// with other directories, nor one that finds the lock file of the state removed.
fn a_second_daemon(host: &Host) {
    let pid = host.sh("cat /tmp/handover.pid").trim().to_owned();
    let refused = |script: &str, words: &[&str]| {
        let second = host.lab.exec(script).unwrap();
        assert_eq!(second.status, 12, "{script}: {second:?}");
        for word in [&["state_locked", "\"/var/lib/handover\""], words].concat() {
            assert!(second.stdout.contains(word), "{script}: no {word}: {second:?}");
        }
    };
    let container = |command: &str| {
        format!(
            "unshare -m -n -p -u -i --fork --mount-proc sh -c '
                 mount -t sysfs none /sys && mount -t tmpfs none /run && mount -t tmpfs none /var/lib || exit 99
                 timeout 30 {command} 2>&1'"
        )
    };
    let far = format!("pid {pid} in another PID namespace");
    refused(&container("handover serve"), &[&far]);
    // Without a daemon the command would open the engine itself.
    refused(&container("handover return --all"), &[&far]);
    refused(&container(&format!("handover sriov set {NIC} 0")), &[&far]);
    let near = format!("pid {pid},");
    refused(
        "timeout 30 handover serve --socket /tmp/other.sock --state-dir /tmp/other --run-dir /tmp/run 2>&1",
        &[&near],
    );
    host.sh("rm /var/lib/handover/lock");
    refused("timeout 30 handover serve --socket /tmp/other.sock --run-dir /tmp/run 2>&1", &[&near]);
}

fn without_qemu(host: &Host) {
    host.kill_daemon();
    host.sh("mkdir -p /tmp/away; mv /usr/bin/qemu-system-x86_64 /tmp/away/");
    host.serve("");
    let machine = Host::machine("vm", "guest", &["gpu0"]);
    host.ask("POST", "/instances", Some(&machine)).refused(409, "hypervisor_missing");
    host.sh("mv /tmp/away/qemu-system-x86_64 /usr/bin/");
}

/// A kernel without vfio-pci, such as a cloud kernel.
fn without_vfio(host: &Host) {
    host.kill_daemon();
    host.sh(
        "modprobe -r vfio-pci
         for file in $(find -L /lib/modules/$(uname -r) -name 'vfio-pci.ko*'); do mv $file /tmp/away/; done
         depmod",
    );
    host.serve("");
    let machine = Host::machine("vm", "guest", &["gpu0"]);
    host.ask("POST", "/instances", Some(&machine)).refused(409, "vfio_missing");
}

fn tokens(host: &Host) {
    host.kill_daemon();
    host.sh(
        "umask 077; echo secret-token >/tmp/token
         setsid handover serve --listen 127.0.0.1:8081 --token-file /tmp/token >>/tmp/handover.log 2>&1 </dev/null & echo $! >/tmp/handover.pid
         for i in $(seq 100); do curl -so /dev/null localhost:8081/devices && break; sleep 0.05; done",
    );
    host.raw("localhost:8081/devices").refused(401, "unauthorized");
    host.raw("-H 'Authorization: Bearer wrong' localhost:8081/devices")
        .refused(401, "unauthorized");
    let right = "-H 'Authorization: Bearer secret-token' localhost:8081/devices";
    assert_eq!(host.raw(right).status, 200);
    host.raw(&format!("-H 'Host: evil.example' {right}")).refused(403, "forbidden");
    host.raw(&format!("-H 'Origin: http://evil.example' {right}")).refused(403, "forbidden");
    host.kill_daemon();
}

/// A damaged or newer database: an error, and no device is changed.
fn state_that_cannot_be_used(host: &Host) {
    let serve = "timeout 20 handover serve --socket /tmp/other.sock --state-dir /tmp/state 2>&1";
    host.sh("mkdir -p /tmp/state; head -c 65536 /dev/urandom >/tmp/state/state.db");
    let damaged = host.lab.exec(serve).unwrap();
    assert_eq!(damaged.status, 12, "{damaged:?}");
    assert!(damaged.stdout.contains("damaged"), "{damaged:?}");
    host.sh("rm -rf /tmp/state; mkdir /tmp/state; sqlite3 /tmp/state/state.db 'create table t(x); pragma user_version = 9999'");
    let newer = host.lab.exec(serve).unwrap();
    assert_eq!(newer.status, 12, "{newer:?}");
    assert!(newer.stdout.contains("newer"), "{newer:?}");
}

#[test]
fn a_host_without_iommu_says_so() {
    if !wanted() {
        return;
    }
    let host = Host::boot("bare");
    host.serve("");
    let before = host.snapshot();
    let answer = host.ask("POST", "/devices", Some(&json!({ "pci_address": GPU })));
    answer.refused(409, "no_iommu");
    let message = answer.body["message"].as_str().unwrap();
    assert!(
        message.contains("intel_iommu=on")
            || answer.body["details"].to_string().contains("intel_iommu=on"),
        "{answer:#?}"
    );
    assert_eq!(host.get("/devices/available?type=all"), json!([]));
    assert_eq!(host.snapshot(), before);
}
